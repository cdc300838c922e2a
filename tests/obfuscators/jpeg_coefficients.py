"""Reads the quantised DCT coefficients of a baseline JPEG file (ITU-T T.81), bit by bit."""

from dataclasses import dataclass

import numpy

ZIGZAG = sorted(range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8))


@dataclass
class Plane:
    """One component: sampling factors, quantisation table [64], coefficients [rows, columns, 64]."""

    across: int
    down: int
    table: numpy.ndarray
    coefficients: numpy.ndarray
    codes: tuple = ()


def read_planes(content):
    """Return the planes of a baseline JPEG, each cut to the blocks that hold picture."""
    tables, codes, planes, place = {}, {}, {}, 2
    while True:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place + 4 : place + 2 + length]
        place += 2 + length
        if marker == 0xDB:
            for start in range(0, len(segment), 65):
                tables[segment[start]] = unzigzag(list(segment[start + 1 : start + 65]))
        elif marker == 0xC4:
            codes |= read_codes(segment)
        elif marker == 0xC0:
            height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            for number, sampling, table in zip(segment[6::3], segment[7::3], segment[8::3], strict=True):
                planes[number] = Plane(sampling >> 4, sampling & 15, tables[table], numpy.zeros(0))
        elif marker == 0xDA:
            for number, which in zip(segment[1 : 1 + 2 * segment[0] : 2], segment[2::2], strict=False):
                planes[number].codes = codes[0, which >> 4], codes[1, which & 15]
            read_scan(content[place:-2].replace(b"\xff\x00", b"\xff"), list(planes.values()), height, width)
            return list(planes.values())
        assert marker not in (0xC1, 0xC2, 0xDD), "baseline without restarts only"


def unzigzag(values):
    natural = numpy.zeros(64, dtype=int)
    natural[ZIGZAG] = values
    return natural


def read_codes(segment):
    """Huffman tables as {(class, number): {(length, code): symbol}}."""
    found = {}
    while segment:
        counts, symbols, code, table = segment[1:17], iter(segment[17:]), 0, {}
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                table[length, code] = next(symbols)
                code += 1
            code <<= 1
        found[segment[0] >> 4, segment[0] & 15] = table
        segment = segment[17 + sum(counts) :]
    return found


def read_scan(data, planes, height, width):
    bits = iter("".join(f"{byte:08b}" for byte in data))

    def take(count):
        return int("0" + "".join(next(bits) for _ in range(count)), 2)

    def symbol(table):
        code = 0
        for length in range(1, 17):
            code = code << 1 | take(1)
            if (length, code) in table:
                return table[length, code]
        raise AssertionError("no such code")

    def number(size):
        value = take(size)
        return value if size == 0 or value >> (size - 1) else value - (1 << size) + 1

    def block(plane, before):
        values = [before + number(symbol(plane.codes[0]))] + [0] * 63
        place = 1
        while place < 64:
            run, size = divmod(symbol(plane.codes[1]), 16)
            if (run, size) == (0, 0):
                break
            place += run
            values[place] = number(size)
            place += 1
        return values

    if len(planes) == 1:  # then a unit is one block, whatever the sampling says
        planes[0].across = planes[0].down = 1
    across, down = max(plane.across for plane in planes), max(plane.down for plane in planes)
    rows, columns = -(-height // (8 * down)), -(-width // (8 * across))
    for plane in planes:
        plane.coefficients = numpy.zeros((rows * plane.down, columns * plane.across, 64), dtype=int)
    before = [0] * len(planes)
    for unit in range(rows * columns):
        for index, plane in enumerate(planes):
            for part in range(plane.down * plane.across):
                row = unit // columns * plane.down + part // plane.across
                column = unit % columns * plane.across + part % plane.across
                values = block(plane, before[index])
                before[index] = values[0]
                plane.coefficients[row, column] = unzigzag(values)
    for plane in planes:
        real = -(-height * plane.down // (8 * down)), -(-width * plane.across // (8 * across))
        plane.coefficients = plane.coefficients[: real[0], : real[1]]

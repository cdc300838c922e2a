"""Small sets in LFW's own formats: photos as folder and archives, its text files, InsightFace's lfw.bin."""

import io
import struct
import tarfile
import zipfile
from functools import cache

import numpy
from PIL import Image


@cache
def photo(number, size=250):
    """A real JPEG of `size` x `size` pixels, another for every number."""
    rows, columns = numpy.mgrid[:size, :size]
    red = (rows * (number + 1)) % 256
    green = (columns * (number + 2)) % 256
    pixels = numpy.stack([red, green, (rows + columns + number) % 256], axis=-1).astype(numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=60)
    return buffer.getvalue()


def photos(people):
    """Person -> number of photos, as `Person/Person_0001.jpg` -> JPEG bytes."""
    names = [f"{name}/{name}_{n:04}.jpg" for name, count in people.items() for n in range(1, count + 1)]
    return {name: photo(number) for number, name in enumerate(names)}


def write_folder(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_tar(path, files, mode="w:gz", links=()):
    """`links` are whole TarInfo objects: links, devices, folders."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in links:
            archive.addfile(member)
    return path


def write_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pairs_text(folds):
    """pairs.txt of folds, each (matched, mismatched): (name, n, n) and (name, n, name, n)."""
    matched, _ = folds[0]
    lines = [(len(folds), len(matched))]
    for matched, mismatched in folds:
        lines += [*matched, *mismatched]
    return tabbed(lines)


def development_pairs_text(matched, mismatched):
    return tabbed([(len(matched),), *matched, *mismatched])


def people_text(folds):
    """people.txt of folds, each person -> number of photos."""
    lines = [(len(folds),)]
    for people in folds:
        lines += [(len(people),), *people.items()]
    return tabbed(lines)


def development_people_text(people):
    return tabbed([(len(people),), *people.items()])


def tabbed(lines):
    return "".join("\t".join(map(str, line)) + "\n" for line in lines)


def python_2_pickle(images, same):
    """`(images, same)` as Python 2's pickler writes it in protocol 2: byte strings as BINSTRING."""
    output = io.BytesIO()
    memo = iter(range(2**31))

    def put():
        number = next(memo)
        output.write(b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number))

    def put_list(items, write):
        output.write(b"]")
        put()
        for start in range(0, len(items), 1000):
            output.write(b"(")
            for item in items[start : start + 1000]:
                write(item)
            output.write(b"e")

    def put_string(content):
        length = len(content)
        output.write(b"U" + bytes([length]) if length < 256 else b"T" + struct.pack("<i", length))
        output.write(content)
        put()

    output.write(b"\x80\x02")
    put_list(images, put_string)
    put_list(same, lambda flag: output.write(b"\x88" if flag else b"\x89"))
    output.write(b"\x86")
    put()
    output.write(b".")
    return output.getvalue()

"""Writes MXNet RecordIO files, and image sets in InsightFace's layout, as those projects' own writers do."""

import struct

MAGIC = struct.pack("<I", 0xCED7230A)


def part(kind, content):
    return MAGIC + struct.pack("<I", kind << 29 | len(content)) + content + bytes(-len(content) % 4)


def record(payload):
    """One record, cut into parts wherever the payload holds the magic at a multiple of four bytes."""
    pieces, start = [], 0
    for place in range(0, len(payload) // 4 * 4, 4):
        if payload[place : place + 4] == MAGIC:
            pieces.append(payload[start:place])
            start = place + 4
    pieces.append(payload[start:])
    if len(pieces) == 1:
        return part(0, payload)
    kinds = [1, *[2] * (len(pieces) - 2), 3]
    return b"".join(part(kind, piece) for kind, piece in zip(kinds, pieces, strict=True))


def image_payload(label, key, content):
    """MXNet's image header and the content; a list of labels follows the header, a single one lies in it."""
    if isinstance(label, list):
        return struct.pack(f"<IfQQ{len(label)}f", len(label), 0, key, 0, *label) + content
    return struct.pack("<IfQQ", 0, label, key, 0) + content


def write_records(path, payloads):
    """Write `path` and its index from key -> payload, in the order given; return key -> offset."""
    offsets = {}
    with path.open("wb") as file:
        for key, payload in payloads.items():
            offsets[key] = file.tell()
            file.write(record(payload))
    write_index(path.with_suffix(".idx"), offsets.items())
    return offsets


def write_index(path, entries):
    path.write_text("".join(f"{key}\t{offset}\n" for key, offset in entries))


def image_set(people, *, label=float):
    """Key -> payload of people, each a list of image files: the images, record 0, a record a person."""
    payloads, ranges, key = {}, [], 1
    for person, images in enumerate(people):
        ranges.append([key, key + len(images)])
        for content in images:
            payloads[key] = image_payload(label(person), key, content)
            key += 1
    payloads[0] = image_payload([key, key + len(people)], 0, b"")
    for images in ranges:
        payloads[key] = image_payload(images, key, b"")
        key += 1
    return payloads


def write_image_set(folder, payloads, *, identities, side=112):
    """Write train.rec, train.idx and property; return key -> offset."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "property").write_text(f"{identities},{side},{side}\n")
    return write_records(folder / "train.rec", payloads)

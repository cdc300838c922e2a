"""InsightFace's lfw.bin: LFW's pairs as a pickle `(images, same)`, read without ever unpickling.

A pickle is a program. Here its opcodes are parsed (`pickletools.genops` only parses), and a machine of our
own obeys those few that lists, tuples, bytes, booleans and integers need; any other one is refused. Images
stay in the file: the machine holds where they lie. So memory does not grow with them, and no photo is
yielded before the whole file has proved to be what it claims.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_core.data.lfw_protocol import Pair, PairFolds
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.errors import DdmError

FOLDS = 10
MAX_IMAGE_BYTES = 16 * 2**20
MAX_TOTAL_BYTES = 2**30  # lfw.bin has 0.06 * 2**30; a pickle can name one image many times
HEAD = 16  # bytes or letters of a string that are remembered; a module's or codec's name fits
MAX_OPCODES = 500_000  # lfw.bin has 45,000; 120,000 in the wordiest protocol
SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}


def read(uri: Path) -> Iterator[RawPhoto | Rejected]:
    """Yield the photos of every pair as `pair_0001/a.jpg` and `pair_0001/b.jpg`; 6,000 pairs in lfw.bin.

    A folder holds a pair here, of one person or two: `read_pairs` says which. Images that are neither JPEG
    nor PNG are rejected.

    Raises:
        DdmError: no such file, not such a pickle, or one that holds or does anything else.
    """
    with _open(uri) as file:
        images, _ = _parse(uri, file)
        for number, image in enumerate(images):
            relative, content = _relative(number, image), image.content(file)
            if image.suffix is None:
                yield Rejected(relative, "neither a JPEG nor a PNG image; take lfw.bin from its source again")
            else:
                yield RawPhoto(relative, content)


def read_pairs(uri: Path) -> PairFolds:
    """Return the pairs in ten equal folds, in the file's order; in lfw.bin that is the order of pairs.txt.

    Raises:
        DdmError: as for `read`, or the number of pairs is no multiple of ten.
    """
    with _open(uri) as file:
        images, same = _parse(uri, file)
    if len(same) % FOLDS:
        raise DdmError(f"{uri}: {len(same)} pairs cannot be cut into {FOLDS} equal folds; take another file")
    names = [_relative(number, image) for number, image in enumerate(images)]
    pairs = [Pair(*both) for both in zip(names[::2], names[1::2], same, strict=True)]
    size = len(pairs) // FOLDS
    return tuple(tuple(pairs[start : start + size]) for start in range(0, len(pairs), size))


@dataclass(frozen=True)
class _Text:
    """A text of the pickle: where it lies in the file, how it begins, and whether Latin-1 can hold it."""

    start: int
    length: int
    encoding: str
    head: str
    latin_1: bool


@dataclass(frozen=True)
class _Image:
    """Bytes of the pickle: where they lie in the file, as text if `encoding` is set, and how they begin."""

    start: int
    length: int
    encoding: str | None
    head: bytes

    @property
    def suffix(self) -> str | None:
        return next((suffix for magic, suffix in SUFFIXES.items() if self.head.startswith(magic)), None)

    def content(self, file: io.BufferedReader) -> bytes:
        file.seek(self.start)
        stored = file.read(self.length)
        return stored if self.encoding is None else stored.decode(self.encoding).encode("latin-1")


@dataclass(frozen=True)
class _Callable:
    """One of the two functions that Python 3 names in old protocols to write bytes; never called."""

    name: str


class _RefusedError(ValueError):
    """The pickle holds what no lfw.bin holds; the message says what."""


class _Reader(io.BufferedReader):
    """A file that hands out no more at once than an image may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_IMAGE_BYTES:
            raise _RefusedError(f"a string of {size} bytes, more than {MAX_IMAGE_BYTES // 2**20} MB")
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(MAX_IMAGE_BYTES + 1)
        if len(line) > MAX_IMAGE_BYTES:
            raise _RefusedError(f"a line of more than {MAX_IMAGE_BYTES // 2**20} MB")
        return line


class _Machine:
    """The stack, marks and memo of a pickle's program."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        values, self.stack = self.stack, self.marks.pop()
        return values

    def take(self, count: int) -> tuple[object, ...]:
        values = tuple(self.stack.pop() for _ in range(count))
        return values[::-1]

    def extend(self, values: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise _RefusedError("an addition to something that is no list")
        target += values

    def put(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def get(self, number: int) -> None:
        if number not in self.memo:
            raise ValueError(f"value {number} is used before it is there")
        self.push(self.memo[number])

    def name(self, module_and_name: str) -> None:
        if module_and_name not in ("_codecs encode", "__builtin__ bytes"):
            raise _forbidden(module_and_name)
        self.push(_Callable(module_and_name.split()[1]))

    def name_from_stack(self) -> None:
        raise _forbidden(" ".join(part.head for part in self.stack[-2:] if isinstance(part, _Text)))

    def reduce(self) -> None:
        """Put the bytes for which Python 3, before protocol 3, writes encode(text, "latin1") or bytes()."""
        match self.take(2):
            case _Callable("encode"), (_Text(latin_1=True) as text, _Text(head="latin1")):
                self.push(_Image(text.start, text.length, text.encoding, text.head.encode("latin-1")))
            case _Callable("bytes"), ():
                self.push(_Image(0, 0, None, b""))
            case _:
                raise _RefusedError("a call (REDUCE) other than those that bytes are written with")


# (bytes before the string, bytes after it, encoding) of every opcode that carries one.
_STRINGS = {
    "SHORT_BINBYTES": (2, 0, None),
    "BINBYTES": (5, 0, None),
    "BINBYTES8": (9, 0, None),
    "SHORT_BINSTRING": (2, 0, None),
    "BINSTRING": (5, 0, None),
    "UNICODE": (1, 1, "raw-unicode-escape"),
    "SHORT_BINUNICODE": (2, 0, "utf-8"),
    "BINUNICODE": (5, 0, "utf-8"),
    "BINUNICODE8": (9, 0, "utf-8"),
}

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: None,
    "MARK": lambda machine, _: machine.mark(),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(machine.take(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.take(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.take(3)),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2"), _Machine.push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": lambda machine, _: machine.name_from_stack(),
    "REDUCE": lambda machine, _: machine.reduce(),
}


def _open(uri: Path) -> _Reader:
    try:
        return _Reader(io.FileIO(uri))
    except (FileNotFoundError, IsADirectoryError):
        raise DdmError(f"{uri}: no such file; name InsightFace's lfw.bin") from None


def _parse(uri: Path, file: _Reader) -> tuple[list[_Image], list[bool]]:
    try:
        return _images_and_flags(_run(file))
    except _RefusedError as error:
        raise DdmError(f"{uri}: holds {error}; only lists of image bytes and booleans are read") from None
    except (ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise DdmError(f"{uri}: no lfw.bin, or a damaged one ({reason}); take it from its source") from None


def _run(file: _Reader) -> object:
    machine = _Machine()
    for count, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if count == MAX_OPCODES:
            raise _RefusedError(f"more than {MAX_OPCODES} opcodes")
        if opcode.name == "STOP":
            break
        if opcode.name in _STRINGS and argument is not None:
            machine.push(_string(opcode.name, argument, position or 0, file.tell()))
        elif opcode.name in _OPERATIONS:
            _OPERATIONS[opcode.name](machine, argument)
        else:
            raise _RefusedError(f"the opcode {opcode.name} at byte {position}")
    if file.read(1) or machine.marks or len(machine.stack) != 1:
        raise _RefusedError("other than one value")
    return machine.stack[0]


def _string(opcode: str, argument: str | bytes, start: int, end: int) -> _Text | _Image:
    before, after, encoding = _STRINGS[opcode]
    start, length = start + before, end - after - start - before
    if encoding is not None:
        text = str(argument)
        return _Text(start, length, encoding, text[:HEAD], _fits_latin_1(text))
    content = argument.encode("latin-1") if isinstance(argument, str) else argument
    return _Image(start, length, None, content[:HEAD])


def _fits_latin_1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _images_and_flags(value: object) -> tuple[list[_Image], list[bool]]:
    match value:
        case ([*values], [*same]) if isinstance(value, tuple):
            images = [image for image in values if isinstance(image, _Image)]
        case _:
            raise _RefusedError("something else than (images, same)")
    if len(images) != len(values):
        raise _RefusedError("images that are no bytes")
    if not all(isinstance(flag, int) and flag in (0, 1) for flag in same):
        raise _RefusedError("flags that are neither true nor false")
    if not same or len(images) != 2 * len(same):
        raise _RefusedError(f"{len(images)} images for {len(same)} pairs")
    if sum(image.length for image in images) > MAX_TOTAL_BYTES:
        raise _RefusedError(f"more than {MAX_TOTAL_BYTES // 2**20} MB of images")
    return images, [bool(flag) for flag in same]


def _forbidden(name: str) -> _RefusedError:
    if name.startswith("numpy"):
        return _RefusedError("numpy arrays, which a pickle can only make by calling code")
    return _RefusedError(f"the name {name[:80]!r}, by which it would call code")


def _relative(number: int, image: _Image) -> str:
    return f"pair_{number // 2 + 1:04}/{'ab'[number % 2]}{image.suffix or '.jpg'}"

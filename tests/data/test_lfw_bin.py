"""lfw.bin is read as pickle.dumps writes it, in every protocol; a pickle that does more is refused unread."""

import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lfw_files import photo, python_2_pickle

from ddm_core.data import lfw_bin
from ddm_core.data.lfw_bin import MAX_IMAGE_BYTES, MAX_OPCODES, MAX_TOTAL_BYTES, read, read_pairs
from ddm_core.data.lfw_protocol import Pair
from ddm_core.data.raw import RawPhoto, Rejected
from ddm_core.errors import DdmError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
JPEGS = [photo(number, size=112) for number in range(20)]
FLAGS = [True] * 5 + [False] * 5


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Where a test's pickle lies; every example of a property test writes it anew."""
    return tmp_path_factory.mktemp("bin") / "lfw.bin"


def refused(path, content, match):
    path.write_bytes(content)
    for function in (lambda path: list(read(path)), read_pairs):
        with pytest.raises(DdmError, match=match) as caught:
            function(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [*(pickle.dumps((JPEGS, FLAGS), protocol) for protocol in PROTOCOLS), python_2_pickle(JPEGS, FLAGS)],
    ids=[*(f"protocol {protocol}" for protocol in PROTOCOLS), "Python 2"],
)
def test_both_photos_of_every_pair_come_in_order_with_their_own_bytes(path, content):
    path.write_bytes(content)
    names = [f"pair_{number:04}/{side}.jpg" for number in range(1, 11) for side in "ab"]
    assert list(read(path)) == [RawPhoto(name, jpeg) for name, jpeg in zip(names, JPEGS, strict=True)]
    folds = read_pairs(path)
    assert folds == tuple(
        (Pair(f"pair_{number:04}/a.jpg", f"pair_{number:04}/b.jpg", number <= 5),) for number in range(1, 11)
    )


@given(
    st.lists(st.binary(max_size=300), min_size=2, max_size=20),
    st.sampled_from([*PROTOCOLS, "Python 2"]),
    st.booleans(),
)
@example([b"", b"\r\n\\\x1a\x00u0041\xff"], 0, False)
@example([b"latin1", b"a" * 255], 2, True)
@example([b"x" * 256, b"y" * 70_000], "Python 2", False)
def test_whatever_the_bytes_they_come_back_unchanged(path, images, protocol, numbers):
    images = images[: len(images) // 2 * 2]
    flags = [number % 3 == 0 for number in range(len(images) // 2)]
    if protocol == "Python 2":
        path.write_bytes(python_2_pickle(images, flags))
    else:
        path.write_bytes(
            pickle.dumps((images, [int(flag) for flag in flags] if numbers else flags), protocol)
        )
    with lfw_bin._open(path) as file:
        spans, same = lfw_bin._parse(path, file)
        assert [span.content(file) for span in spans] == images
    assert same == flags
    assert all(isinstance(flag, bool) for flag in same)


def test_the_python_2_encoder_of_these_tests_writes_what_pickle_reads():
    assert pickle.loads(python_2_pickle(JPEGS, FLAGS), encoding="bytes") == (JPEGS, FLAGS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_image_in_two_pairs_is_read_twice(path, protocol):
    path.write_bytes(pickle.dumps((JPEGS[:2] * 2, [True, True]), protocol))
    assert [photo.content for photo in read(path)] == JPEGS[:2] * 2


def test_png_images_keep_their_kind_and_others_are_rejected(path):
    png = b"\x89PNG\r\n\x1a\n and more"
    path.write_bytes(pickle.dumps(([png, b"GIF89a", *JPEGS[2:]], FLAGS)))
    first, second, *others = read(path)
    assert first == RawPhoto("pair_0001/a.png", png)
    assert isinstance(second, Rejected)
    assert second.relative == "pair_0001/b.jpg"
    assert "neither a JPEG nor a PNG" in second.reason
    assert [photo.content for photo in others] == JPEGS[2:]
    assert read_pairs(path)[0][0] == Pair("pair_0001/a.png", "pair_0001/b.jpg", True)


def test_a_number_of_pairs_that_ten_does_not_divide_gives_photos_but_no_folds(path):
    path.write_bytes(pickle.dumps((JPEGS[:6], [True, False, True])))
    assert len(list(read(path))) == 6
    with pytest.raises(DdmError, match="3 pairs cannot be cut into 10 equal folds"):
        read_pairs(path)


def test_memory_does_not_grow_with_the_images(path):
    def peak(images):
        path.write_bytes(pickle.dumps((images, [True] * (len(images) // 2))))
        tracemalloc.start()
        assert sum(len(photo.content) for photo in read(path)) == sum(map(len, images))
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    small = [b"\xff\xd8\xff" + bytes([number]) * 200_000 for number in range(4)]
    large = [b"\xff\xd8\xff" + bytes([number]) * 200_000 for number in range(60)]
    peak(small)  # what is allocated but once
    assert peak(large) - peak(small) < 200_000


class Evil:
    """Pickles into a call of os.system that leaves `mark` behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("place", ["image", "flag", "after", "alone"])
def test_a_pickle_that_calls_code_is_refused_and_nothing_is_called(path, tmp_path, protocol, place):
    evil = Evil(tmp_path / "was-here")
    value = {
        "image": ([*JPEGS[1:], evil], FLAGS),
        "flag": (JPEGS, [*FLAGS[1:], evil]),
        "after": (JPEGS, FLAGS, evil),
        "alone": evil,
    }[place]
    content = pickle.dumps(value, protocol)
    pickle.loads(content)
    assert evil.mark.exists(), "the pickle does harm where it is unpickled"
    evil.mark.unlink()
    refused(path, content, r"the name 'posix system', by which it would call code")
    assert not evil.mark.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_arrays_are_refused_in_words_that_say_so(path, protocol):
    arrays = [numpy.zeros((4, 4, 3), numpy.uint8)] * 20
    refused(path, pickle.dumps((arrays, FLAGS), protocol), "holds numpy arrays")
    refused(path, pickle.dumps((JPEGS, list(numpy.array(FLAGS))), protocol), "holds numpy arrays")


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (
            b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.",
            r"a call \(REDUCE\) other than",
        ),
        (
            b"c_codecs\nencode\nX\x02\x00\x00\x00\xc4\x80X\x06\x00\x00\x00latin1\x86R.",
            r"a call \(REDUCE\) other",
        ),
        (b"c_codecs\ndecode\n.", "the name '_codecs decode'"),
        (b"c__builtin__\nbytes\nK\x09\x85R.", r"a call \(REDUCE\) other than"),
        (b"c__builtin__\neval\n.", "the name '__builtin__ eval'"),
        (b"c__builtin__\nbytes\n)\x81.", "the opcode NEWOBJ at byte 20"),
        (b"(c__builtin__\nbytes\no.", "the opcode OBJ"),
        (b"(ios\nsystem\n.", "the opcode INST"),
        (b"]}b.", "the opcode EMPTY_DICT"),
        (b"]Nb.", "the opcode NONE"),
        (b"]]b.", "the opcode BUILD"),
        (b"Pid\n.", "the opcode PERSID"),
        (b"]Q.", "the opcode BINPERSID"),
        (b"\x82\x01.", "the opcode EXT1"),
        (b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "the opcode BYTEARRAY8"),
        (b"\x97.", "the opcode NEXT_BUFFER"),
        (b"G\x00\x00\x00\x00\x00\x00\x00\x00.", "the opcode BINFLOAT"),
        (b")K\x01a.", "an addition to something that is no list"),
        (b"]]].", "other than one value"),
        (b"(].", "other than one value"),
        (b"].more", "other than one value"),
        (b"].", r"something else than \(images, same\)"),
        (b"]]]\x87.", r"something else than \(images, same\)"),
        (b"]]\x86.", "0 images for 0 pairs"),
        (b"](C\x01aC\x01be](\x88\x88e\x86.", "2 images for 2 pairs"),
        (b"](X\x01\x00\x00\x00aC\x01be]\x88a\x86.", "images that are no bytes"),
        (b"](C\x01aC\x01be]K\x02a\x86.", "flags that are neither true nor false"),
        (b"](C\x01aC\x01be]C\x01aa\x86.", "flags that are neither true nor false"),
        (b"]q\x00h\x00a]\x86.", "images that are no bytes"),
        (b"h\x07.", "value 7 is used before it is there"),
        (b"a.", "no lfw.bin, or a damaged one"),
        (b"e.", "no lfw.bin, or a damaged one"),
        (b"\x86.", "no lfw.bin, or a damaged one"),
        (b"R.", "no lfw.bin, or a damaged one"),
        (b"q\x00.", "no lfw.bin, or a damaged one"),
        (b"\x93.", "the name ''"),
        (b".", "other than one value"),
        (b"", "no lfw.bin, or a damaged one"),
        (b"I" + b"9" * 5000 + b"\n.", "no lfw.bin, or a damaged one"),
        (b"\xff\xd8\xff\xe0 a photo", "no lfw.bin, or a damaged one"),
    ],
)
def test_any_other_program_is_refused(path, body, match):
    refused(path, body, match)
    refused(path, b"\x80\x02" + body, match.replace("byte 20", "byte 22"))


def test_a_pickle_nested_deeply_is_refused(path):
    for deep in (b"(" * 20_000, b"]" * 20_000, b"(" * 20_000 + b"l" * 20_000):
        refused(path, deep + b".", "holds")
    refused(path, b"]" + b"]" * 20_000 + b"a" * 20_000 + b".", "something else than")


def test_a_small_pickle_that_names_one_image_over_and_over_is_refused(path, monkeypatch):
    monkeypatch.setattr(lfw_bin, "MAX_TOTAL_BYTES", 20 * len(JPEGS[0]))
    refused(path, pickle.dumps((JPEGS[:1] * 22, [*FLAGS, True])), "holds more than 0 MB of images")
    assert MAX_TOTAL_BYTES == 2**30


def test_a_list_that_holds_itself_twice_again_and_again_is_refused(path):
    value = []
    for _ in range(100):
        value = [value, value]
    refused(path, pickle.dumps((value, FLAGS)), "images that are no bytes")


def test_a_program_far_longer_than_any_set_needs_is_refused(path, monkeypatch):
    assert MAX_OPCODES > 3 * 14_000 * 9, "InsightFace's largest set of pairs has 14,000 images"
    monkeypatch.setattr(lfw_bin, "MAX_OPCODES", 1000)
    refused(path, b"]" * 1001 + b".", "more than 1000 opcodes")


@pytest.mark.parametrize(
    "opcode",
    [
        b"B" + struct.pack("<I", 2**32 - 1),
        b"\x8e" + struct.pack("<Q", 2**62),
        b"X" + struct.pack("<I", 2**31),
        b"\x8d" + struct.pack("<Q", 2**40),
        b"T" + struct.pack("<i", 2**31 - 1),
        b"\x8b" + struct.pack("<i", 2**31 - 1),
    ],
)
def test_a_length_far_beyond_any_image_is_refused_before_memory_is_taken(path, opcode):
    tracemalloc.start()
    refused(path, opcode + b"abc.", f"more than {MAX_IMAGE_BYTES // 2**20} MB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_line_without_end_is_refused(path):
    refused(path, b"V" + b"a" * (MAX_IMAGE_BYTES + 2), "a line of more than 16 MB")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_off_anywhere_is_refused(path, protocol):
    content = pickle.dumps(([b"\xff\xd8\xff" * 9] * 20, FLAGS), protocol)
    for length in range(0, len(content), 3):
        refused(path, content[:length], "no lfw.bin, or a damaged one")


OPCODES = sorted(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)


@given(
    st.lists(
        st.sampled_from(OPCODES) | st.binary(max_size=6) | st.just(b"c__builtin__\nbytes\n"), max_size=30
    )
)
def test_any_bytes_at_all_are_read_or_refused_in_one_line(path, parts):
    path.write_bytes(b"".join(parts))
    try:
        found = list(read(path))
    except DdmError as error:
        assert "\n" not in str(error)
    else:
        assert len(found) % 2 == 0


@given(st.integers(0, 2**31), st.integers(1, 255), st.sampled_from(PROTOCOLS))
def test_a_changed_byte_is_read_or_refused_in_one_line_and_calls_nothing(path, place, change, protocol):
    content = bytearray(pickle.dumps(([b"\xff\xd8\xffa", b"\x89PNG"] * 10, FLAGS), protocol))
    content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        list(read(path))
    except DdmError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_no_such_file_is_an_error(tmp_path, make):
    make(tmp_path / "lfw.bin")
    with pytest.raises(DdmError, match="no such file; name InsightFace's lfw"):
        list(read(tmp_path / "lfw.bin"))

"""RecordIO: what MXNet writes is read back, and damage is told from records."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from recordio_files import MAGIC, image_payload, part, record, write_index, write_records

from ddm_core.data.recordio import (
    open_records,
    read_index,
    read_record,
    read_records,
    rebuild_index,
    unpack_image,
)
from ddm_core.errors import DdmError

# Written by MXNet 1.9.1: key 1 a photo with a single label, key 2 one with two labels and four magics,
# key 0 a header, key 3 two magics alone.
OF_MXNET = bytes.fromhex(
    "0a23d7ce1d00000000000000000040400100000000000000000000000000000070686f746f000000"
    "0a23d7ce24000020020000000000000002000000000000000000000000000000000040400000803f666f7572"
    "0a23d7ce0d000060780a23d7ce0a23d7ce0a23d7ce000000"
    "0a23d7ce2000000002000000000000000000000000000000000000000000000000004040000080400a23d7ce"
    "000000200a23d7ce000000400a23d7ce00000060"
)
INDEX_OF_MXNET = "1\t0\n2\t40\n0\t108\n3\t148\n"

words = st.one_of(st.just(MAGIC), st.binary(max_size=9), st.sampled_from([MAGIC[:2], MAGIC[2:]]))
payloads = st.lists(words, max_size=8).map(b"".join)


def sequence(path):
    with open_records(path) as records:
        return [record.payload for record in read_records(records)]


def by_index(path):
    index = read_index(path.with_suffix(".idx"))
    with open_records(path) as records:
        return {key: read_record(records, *index.extent(key)).payload for key in index.keys}


def outcomes(path):
    """Key -> payload, or `None` for a record that is refused."""
    index = read_index(path.with_suffix(".idx"))
    found = {}
    with open_records(path) as records:
        for key in index.keys:
            try:
                found[key] = read_record(records, *index.extent(key)).payload
            except DdmError as error:
                assert "\n" not in str(error)
                found[key] = None
    return found


def refusal(path):
    with pytest.raises(DdmError) as caught:
        sequence(path)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.rec"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """One path for all the examples of a property."""
    return tmp_path_factory.mktemp("records") / "set.rec"


def test_a_file_of_mxnets_own_writer_is_read(path):
    path.write_bytes(OF_MXNET)
    path.with_suffix(".idx").write_text(INDEX_OF_MXNET)
    found = by_index(path)
    assert found[3] == MAGIC * 2
    images = {key: unpack_image(found[key]) for key in (0, 1, 2)}
    assert {key: image.id for key, image in images.items()} == {0: 0, 1: 1, 2: 2}
    assert [list(images[key].labels) for key in (0, 1, 2)] == [[3, 4], [3], [3, 1]]
    assert [images[key].content for key in (0, 1, 2)] == [b"", b"photo", b"four" + MAGIC + b"x" + MAGIC * 3]
    assert sequence(path) == [found[key] for key in (1, 2, 0, 3)]


def test_the_encoder_of_these_tests_writes_the_bytes_of_mxnet(path):
    written = {
        1: image_payload(3.0, 1, b"photo"),
        2: image_payload([3.0, 1.0], 2, b"four" + MAGIC + b"x" + MAGIC * 3),
        0: image_payload([3.0, 4.0], 0, b""),
        3: MAGIC * 2,
    }
    write_records(path, written)
    assert path.read_bytes() == OF_MXNET
    assert path.with_suffix(".idx").read_text() == INDEX_OF_MXNET


@given(st.lists(payloads, min_size=1, max_size=6))
@example([b"", MAGIC, MAGIC * 3, b"x" + MAGIC, b"xy" + MAGIC, b"xyz" + MAGIC, b"wxyz" + MAGIC + b"end"])
def test_any_payload_comes_back_by_key_and_in_sequence(scratch, written):
    write_records(scratch, dict(enumerate(written)))
    assert sequence(scratch) == written
    assert by_index(scratch) == dict(enumerate(written))


@given(
    st.lists(st.floats(width=32), max_size=5) | st.floats(width=32),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
)
def test_labels_and_numbers_of_an_image_come_back(label, number, content):
    image = unpack_image(image_payload(label, number, content))
    labels = label if isinstance(label, list) and label else [0.0 if label == [] else label]
    assert struct.pack(f"{len(labels)}f", *image.labels) == struct.pack(f"{len(labels)}f", *labels)
    assert (image.id, image.second_id, image.content) == (number, 0, content)


@given(st.binary(max_size=60))
def test_a_payload_that_is_no_image_is_refused_or_wholly_accounted_for(payload):
    try:
        image = unpack_image(payload)
    except DdmError:
        count = struct.unpack_from("<I", payload)[0] if len(payload) >= 24 else 0
        assert len(payload) < 24 + 4 * count
    else:
        assert payload.endswith(image.content)
        assert len(image.content) in (len(payload) - 24, len(payload) - 24 - 4 * len(image.labels))


@given(st.lists(payloads, min_size=1, max_size=6), st.data())
def test_a_file_cut_off_anywhere_gives_its_whole_records_and_no_other(scratch, written, data):
    offsets = write_records(scratch, dict(enumerate(written)))
    content = scratch.read_bytes()
    length = data.draw(st.integers(4, len(content) - 1))
    scratch.write_bytes(content[:length])
    ends = [*list(offsets.values())[1:], len(content)]
    whole = {key: payload if ends[key] <= length else None for key, payload in enumerate(written)}
    assert outcomes(scratch) == whole


@given(st.lists(payloads, min_size=1, max_size=5), st.data())
def test_a_damaged_header_never_gives_a_payload_that_was_not_written(scratch, written, data):
    """But for zeros out of the padding: a length that is longer by them cannot be told from a true one."""
    offsets = write_records(scratch, dict(enumerate(written)))
    content = bytearray(scratch.read_bytes())
    headers = [place for place in range(0, len(content), 4) if content[place : place + 4] == MAGIC]
    place = data.draw(st.sampled_from(headers)) + data.draw(st.integers(0, 7))
    content[place] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(content)
    if content[:4] != MAGIC:
        assert "no magic at its start" in refusal(scratch)
        return
    hit = max(key for key, offset in offsets.items() if offset <= place)
    for key, payload in outcomes(scratch).items():
        if key == hit:
            assert payload is None or payload.rstrip(b"\0") == written[key].rstrip(b"\0")
        else:
            assert payload == written[key]


@given(st.lists(payloads, min_size=1, max_size=5), st.data())
def test_arbitrary_damage_neither_crashes_nor_reaches_other_records(scratch, written, data):
    offsets = write_records(scratch, dict(enumerate(written)))
    content = bytearray(scratch.read_bytes())
    hit = data.draw(st.sampled_from(sorted(offsets)))
    end = offsets.get(hit + 1, len(content))
    for place in data.draw(st.lists(st.integers(max(offsets[hit], 4), end - 1), max_size=12)):
        content[place] = data.draw(st.sampled_from([0, 1, 255, *MAGIC]))
    scratch.write_bytes(content)
    found = outcomes(scratch)
    assert {**found, hit: b""} == {**dict(enumerate(written)), hit: b""}
    assert found[hit] is None or len(found[hit]) <= end - offsets[hit]


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused_in_one_line(scratch, content):
    scratch.write_bytes(MAGIC + content)
    try:
        assert sum(map(len, sequence(scratch))) <= len(content)
    except DdmError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no magic at its start"),
        (b"\xff\xd8\xff\xe0 a photo", "no magic at its start"),
        (record(b"one") + b"\xff\xd8\xff\xe0 a photo", "ends at 12, where none begins"),
        (MAGIC, "cut off at byte 4"),
        (record(b"photo")[:-1], "claims 8 bytes, where 7 are left"),
        (part(0, b"photo") + part(3, b"end"), "ends at 16, where none begins"),
        (part(3, b"end"), "no record begins at byte 0"),
        (part(1, b"begin678") + part(0, b"end"), "lacks its last part before byte 16"),
        (part(1, b"begin678"), "cut off at byte 16"),
        (part(1, b"begin") + part(3, b"end"), "wrong length"),
        (MAGIC + struct.pack("<I", 5) + b"photos\0\0", "wrong length, 5 bytes"),
        (part(7, b"photo"), "unknown kind 7"),
        (MAGIC + struct.pack("<I", 2**29 - 1), "claims 536870912 bytes, where 0 are left"),
        (MAGIC + struct.pack("<I", 24) + bytes(4) + record(b"swallowed"), "wrong length, 24 bytes"),
    ],
)
def test_damage_is_named_with_its_place(path, content, reason):
    path.write_bytes(content)
    assert reason in refusal(path)
    assert str(path) in refusal(path)


def test_a_record_larger_than_wanted_is_refused_before_it_is_read(path):
    write_records(path, {0: b"x" * 100, 1: MAGIC * 25})
    with open_records(path) as records:
        assert len(read_record(records, 0, max_bytes=100).payload) == 100
        for offset in (0, 108):
            with pytest.raises(DdmError, match="too many"):
                read_record(records, offset, max_bytes=99)


def test_a_record_that_passes_the_next_ones_offset_is_refused(path):
    offsets = write_records(path, {0: b"x" * 40, 1: b"y"})
    with open_records(path) as records, pytest.raises(DdmError, match="claims 40 bytes, where 32 are left"):
        read_record(records, 0, offsets[1] - 8)


def test_a_missing_file_is_named(path):
    with pytest.raises(DdmError, match=r"set\.rec: cannot be read \(No such file"), open_records(path):
        pass
    with pytest.raises(DdmError, match=r"set\.idx: cannot be read \(No such file"):
        read_index(path.with_suffix(".idx"))


def test_an_index_may_name_some_of_the_records_in_any_order(path):
    offsets = write_records(path, {key: b"%d" % key for key in range(5)})
    write_index(path.with_suffix(".idx"), [(key, offsets[key]) for key in (4, 1, 2)])
    assert by_index(path) == {1: b"1", 2: b"2", 4: b"4"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no record in it"),
        ("0\t0\n1 8\n", "line 2 is not"),
        ("0\t-8\n", "line 1 is not"),
        ("0\t٣\n", "line 1 is not"),
        ("0\t" + "9" * 60 + "\n", "line 1 is not"),
        ("9" * 10_000, "line 1 is not"),
        ("0\t0\n0\t8\n", "the key 0 occurs twice"),
        ("0\t8\n1\t8\n", "the offset 8 occurs twice"),
    ],
)
def test_a_damaged_index_is_refused(path, text, reason):
    path.with_suffix(".idx").write_text(text)
    with pytest.raises(DdmError, match=reason):
        read_index(path.with_suffix(".idx"))


def test_an_offset_where_no_record_begins_is_refused(path):
    write_records(path, {0: b"x" + part(0, b"fake")})
    write_index(path.with_suffix(".idx"), enumerate([4, 9, 21, 10**17]))
    assert outcomes(path) == dict.fromkeys(range(4))


def test_a_key_that_the_index_lacks_is_refused(path):
    write_records(path, {1: b"x", 3: b"y"})
    for key in (0, 2, 4):
        with pytest.raises(DdmError, match=f"no record {key}"):
            read_index(path.with_suffix(".idx")).extent(key)


def test_the_index_is_rebuilt_from_the_records(path):
    write_records(path, {key: image_payload(0.0, key, MAGIC * (key % 5)) for key in (3, 2**63, 0, 2)})
    with open_records(path) as records:
        rebuilt = rebuild_index(records)
    path.with_suffix(".idx").write_text(path.with_suffix(".idx").read_text().replace(str(2**63), "9"))
    written = read_index(path.with_suffix(".idx"))
    assert list(rebuilt.keys) == [0, 2, 3, 2**63]
    assert (rebuilt.offsets, rebuilt.ascending) == (written.offsets, written.ascending)


def test_the_index_of_a_damaged_file_is_not_rebuilt(path):
    write_records(path, {key: image_payload(0.0, key, b"x") for key in (0, 1)})
    path.write_bytes(path.read_bytes()[:-1])
    with open_records(path) as records, pytest.raises(DdmError, match=r"set\.rec: .* are left"):
        rebuild_index(records)

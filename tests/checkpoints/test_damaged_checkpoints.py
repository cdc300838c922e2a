"""A checkpoint that is not what was written is told in one line, and the one before serves."""

import json

import pytest
from checkpointed_training import NAME, settings, trained
from interrupted_training import STEPS, every, interrupt, names, same

from ddm_core.checkpoint_places import RECORD, STATE, place_at


def flip_a_byte(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def another_number(content):
    record = json.loads(content)
    record["record"]["step"] += 1
    return json.dumps(record).encode()


DAMAGES = {
    "a flipped bit of the state": (STATE, flip_a_byte),
    "half a state": (STATE, lambda content: content[: len(content) // 2]),
    "no state": (STATE, None),
    "a record that is no JSON": (RECORD, lambda content: content[:-9]),
    "a record of something else": (RECORD, lambda _: b'{"step": 3}'),
    "another number in the record": (RECORD, another_number),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_told_in_one_line_and_the_one_before_serves(
    damage, place, uninterrupted_ddm, request, capsys
):
    params = settings("ddm", STEPS)
    interrupt(params, every(10, place), at=25)
    interrupt(params, every(10, place), at=50)
    newest, before = names(place)[:2]
    file, change = DAMAGES[damage]
    spoil(request, place, f"{newest}/{file}", change)
    capsys.readouterr()
    networks, history = trained(params, every(10, place))
    said = [line for line in capsys.readouterr().err.splitlines() if place in line]
    assert len(said) == 2
    assert said[0].startswith(f"{place}/{NAME}/{newest}: damaged and removed: ")
    assert said[1] == f"{place}/{NAME}: going on after step {int(before.removeprefix('step-'))}"
    assert same(networks, uninterrupted_ddm[0])
    assert history == uninterrupted_ddm[1]


def spoil(request, place, name, change):
    """Put something else where a file of a checkpoint lies, or nothing."""
    if place.startswith("s3://"):
        client, key = request.getfixturevalue("s3"), f"some/checkpoints/{NAME}/{name}"
        before = client.get_object(Bucket="faces", Key=key)
        if change is None:
            client.delete_object(Bucket="faces", Key=key)
        else:
            body = change(before["Body"].read())
            client.put_object(Bucket="faces", Key=key, Body=body, Metadata=before["Metadata"])
        return
    path = place_at(place, NAME).folder / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))


def test_where_every_checkpoint_is_damaged_the_training_starts_anew(uninterrupted_ddm, tmp_path, capsys):
    params, options = settings("ddm", STEPS), every(10, tmp_path)
    interrupt(params, options, at=50)
    for name in names(str(tmp_path)):
        (tmp_path / NAME / name / STATE).write_bytes(b"")
    networks, history = trained(params, options)
    assert "going on" not in capsys.readouterr().err
    assert same(networks, uninterrupted_ddm[0])
    assert history == uninterrupted_ddm[1]

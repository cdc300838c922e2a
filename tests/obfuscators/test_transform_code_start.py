"""Keyed DDM starts as a transform code (docs/method.md): it decrypts faces before the first training step."""

from pathlib import Path

import pytest

from ddm_core.data.shards import load_photos
from ddm_core.evaluation import decrypt_photos, encrypt_photos, evaluation_key
from ddm_core.metrics import psnr_db
from ddm_core.obfuscators.keyed_ddm import KeyedDdm, KeyedDdmNetworks
from ddm_core.params import load
from ddm_core.seeding import make_deterministic
from ddm_core.stages import fetch, prepare

PARAMS = load(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """The ORL test photos, as the default run prepares them."""
    folder = tmp_path_factory.mktemp("faces")
    fetch.run(PARAMS.fetch, raw=folder / "raw")
    prepare.run(PARAMS.prepare, raw=folder / "raw", prepared=folder / "prepared")
    return load_photos(folder / "prepared", split="test")


def test_untrained_networks_decrypt_faces_at_over_20_db_and_a_wrong_key_does_not(faces):
    make_deterministic(0, "transform code", threads=1)
    networks = KeyedDdmNetworks(1, PARAMS.train["keyed_ddm"]).requires_grad_(False)
    sender = KeyedDdm(networks, evaluation_key(0, "victim"))
    encrypted = encrypt_photos(sender, faces, 1, 0, "transform code", "cpu")

    restored = decrypt_photos(sender, encrypted.hidden, encrypted.nonces, "cpu")
    assert psnr_db(restored, encrypted.originals).mean() > 20

    thief = sender.with_key(evaluation_key(0, "wrong"))
    guessed = decrypt_photos(thief, encrypted.hidden, encrypted.nonces, "cpu")
    assert psnr_db(guessed, encrypted.originals).mean() < 12

"""Across a whole run no two encryptions share a key and a nonce: reuse would undo the one-time pad."""

from collections import Counter

import pytest
import torch

from ddm_core.checkpoints import WEIGHTS, save_weights
from ddm_core.evaluation import evaluation_key
from ddm_core.files import write_json
from ddm_core.networks import RecognitionNetwork
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.params import UtilityParams
from ddm_core.results import ATTACKERS, CONTROLS
from ddm_core.stages import attack, train, utility
from ddm_core.stages.recognise import DESCRIPTION

MODELS = ("keyed_ddm", "keyed_ddm_wide")


@pytest.fixture
def uses(monkeypatch):
    """Every (key, nonce) that any KeyedDdm encrypts with, each with the number of times."""
    used = Counter()
    encrypt = KeyedDdm.encrypt

    def recording(self, images, nonces):
        used.update((self.master_key, nonce) for nonce in nonces)
        return encrypt(self, images, nonces)

    monkeypatch.setattr(KeyedDdm, "encrypt", recording)
    return used


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recogniser")
    torch.manual_seed(0)
    save_weights(RecognitionNetwork(1, 5), folder / WEIGHTS)
    write_json(folder / DESCRIPTION, {"channels": 1, "identities": 5})
    return folder


def test_no_stage_and_no_attacker_uses_a_nonce_twice_under_one_key(
    *, uses, prepared, recogniser, keyed_ddm_params, attack_params, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    purposes = {}
    for name in MODELS:
        model, results = tmp_path / "models" / name, tmp_path / name
        train.run(keyed_ddm_params, name=name, prepared=prepared, model=model, history=results / "history")
        purposes[name, "train"] = uses.total()
        for attacker in ATTACKERS + CONTROLS:
            attack.run(
                attack_params,
                attacker=attacker,
                prepared=prepared,
                model=model,
                recogniser=recogniser,
                result=results / attacker,
            )
            purposes[name, attacker] = uses.total()
        utility.run(
            UtilityParams(encryptions_per_photo=2, threads=1, seed=0),
            prepared=prepared,
            model=model,
            recogniser=recogniser,
            result=results / "utility",
        )
        purposes[name, "utility"] = uses.total()

    assert {name for name, count in uses.items() if count > 1} == set()
    # what was recorded is the whole run: the victim's test photos, and the attackers' own training data
    test, training = 5, 25
    victim = [key for key, _ in uses if key == evaluation_key(0, "victim")]
    attacker = [key for key, _ in uses if key == evaluation_key(0, "attacker")]
    batches = training // attack_params.batch_size * attack_params.batch_size
    inverted = attack_params.inversion_steps * attack_params.batch_size
    assert len(victim) == len(MODELS) * (test + len(ATTACKERS) * 2 * test + 2 * test)
    assert len(attacker) == len(MODELS) * (batches + inverted)
    assert len(victim) + len(attacker) == len(uses)
    assert list(purposes.values()) == sorted(purposes.values())

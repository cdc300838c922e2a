"""The transfer attacker: other settings teach it this one, where there is anything to learn."""

import pytest
from weak_ciphers import OneTimePad, accuracy, at_chance, make_target

from ddm_core.attacks.transfer import mixture, transfer
from ddm_core.evaluation import as_float
from ddm_core.obfuscators.classical import Identity, Mosaic


def test_the_neighbouring_block_sizes_teach_it_a_mosaic():
    outcome = transfer(make_target(Mosaic(4), others={"finer": Mosaic(2), "coarser": Mosaic(8)}))
    assert accuracy(outcome) > 0.9
    assert len(outcome.labels) == 16, "a mosaic has no nonce: each photo once"


def test_a_one_time_pad_stays_one_under_other_settings():
    outcome = transfer(make_target(OneTimePad(), others={"other": OneTimePad().with_key(b"other")}))
    assert len(outcome.labels) == 16 * 8
    assert at_chance(outcome)


def test_every_batch_holds_all_other_settings_each_under_nonces_of_its_own():
    class Recording(Identity):
        def encrypt(self, images, nonces):
            used.append(tuple(nonces))
            return super().encrypt(images, nonces)

    used = []
    target = make_target(Identity(), others={"a": Recording(), "b": Recording(), "c": Recording()})
    photos = as_float(target.train.images[:8])
    assert mixture(target)(photos).equal(photos), "the order stays that of the labels"
    assert [len(nonces) for nonces in used] == [3, 3, 2]
    assert len({nonce for nonces in used for nonce in nonces}) == 8


def test_batches_smaller_than_the_number_of_other_settings_are_whole():
    target = make_target(Identity(), others={str(block): Mosaic(block) for block in range(1, 13)})
    assert mixture(target)(as_float(target.train.images[:2])).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_answers(seed):
    others = {"finer": Mosaic(2)}
    rankings = [
        transfer(make_target(Mosaic(8), others=others, seed=seed, epochs=1)).ranking for _ in range(2)
    ]
    assert rankings[0].equal(rankings[1])

"""Discrepancy alone hides nothing (docs/method.md): an invisible checkerboard has nearly all of it."""

import math

import pytest
import torch

from ddm_core.attacks.recognition import train_recogniser
from ddm_core.data.shards import load_photos
from ddm_core.discrepancy import discrepancy_loss, jsd_lower_bound
from ddm_core.evaluation import as_float
from ddm_core.networks import Discriminator
from ddm_core.params import FetchParams, PrepareParams, RecogniseParams
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.stages import fetch, prepare

STEPS = 800


@pytest.fixture(scope="module")
def orl(tmp_path_factory):
    """The ORL photos at 32 pixels: (train, test)."""
    folder = tmp_path_factory.mktemp("orl")
    fetch.run(FetchParams(source="orl"), raw=folder / "raw")
    shape = PrepareParams(32, 1, "crop", 0.2, 0.2, 0.0, 256, 0)
    prepare.run(shape, raw=folder / "raw", prepared=folder / "prepared")
    return tuple(load_photos(folder / "prepared", split=split) for split in ("train", "test"))


def checkerboard(images):
    """Photos in [0, 1] with one level of 255 added and taken away in turn: nobody sees a difference."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in images.shape[-2:]), indexing="ij")
    return images + ((rows + columns) % 2 * 2 - 1) / 255.0


def test_a_checkerboard_of_one_level_makes_the_discrepancy_large_and_hides_nobody(orl):
    train, test = orl
    make_deterministic(0, "degenerate optimum", threads=1)
    draws = torch_generator(0, "degenerate optimum")
    discriminator = Discriminator(1)
    optimiser = torch.optim.Adam(discriminator.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        photos = as_float(train.images[torch.randint(0, len(train.images), (32,), generator=draws)])
        loss = discrepancy_loss(discriminator(photos), discriminator(checkerboard(photos)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()

    photos = as_float(test.images)
    with torch.no_grad():
        restored, hidden = discriminator(photos), discriminator(checkerboard(photos))
    bound = jsd_lower_bound(float(discrepancy_loss(restored, hidden)))
    right = (restored.mean((1, 2, 3)) > 0).float().mean() + (hidden.mean((1, 2, 3)) < 0).float().mean()
    told_apart = float(right) / 2

    settings = RecogniseParams(epochs=15, batch_size=32, learning_rate=2e-3, threads=1, seed=0)
    recogniser = train_recogniser(train.images, train.labels, 40, settings, "degenerate optimum", "cpu")
    accuracy = (recogniser.recognise(checkerboard(photos)) == test.labels).float().mean()

    print(f"JSD bound {bound:.3f} of {math.log(2):.3f} nats on unseen photos")
    print(f"told apart {told_apart:.1%}, people recognised {accuracy:.1%}")
    assert bound > 0.7 * math.log(2)
    assert told_apart > 0.95
    assert accuracy > 0.9

"""The inversion attacker: rebuild the photo from its obfuscation, then recognise the rebuilt face.

An image-to-image network is trained on (x_e, x) pairs, for keyed methods made under the attacker's own keys;
the clean-trained recogniser names the person in what it rebuilds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.attacks.recognition import Obfuscate, fresh_encryptions
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.networks import InversionNetwork, crop_like, place
from ddm_core.seeding import torch_generator
from ddm_core.training import augment, rate_factor

VALIDATION_STEPS = 90  # between two looks at the photos held back
LEAST_GAIN = 0.01  # of the error there: less is none
WARM_UP_STEPS = 20
COOLING_STEPS = 180  # in which the rate falls once nothing is gained: noise of large steps goes


def inversion(target: Target) -> Outcome:
    """Train the inversion network and try it on the obfuscated test photos."""
    encrypted = encrypt_test_photos(target, "inversion")
    network = train_inversion(target)
    rebuilt = crop_like(invert(network, encrypted.hidden, target.device), encrypted.originals)
    return Outcome(
        ranking=target.recogniser.rank(rebuilt),
        labels=encrypted.labels,
        reconstructions=rebuilt,
        originals=encrypted.originals,
        hidden=encrypted.hidden,
    )


def train_inversion(target: Target) -> InversionNetwork:
    """Train x_e -> x on the training photos by the mean absolute error.

    With `inversion_patience_steps` one photo of each person is held back. Once the error there has gained
    nothing for so many steps, the rate falls to nothing and training ends; of the networks that were looked
    at, the one that did best there is returned.
    """
    params = target.params
    draws = torch_generator(params.seed, f"inversion/{target.name}")
    network = place(InversionNetwork(target.train.images.shape[1]), target.device)
    optimiser = torch.optim.Adam(network.parameters(), params.inversion_learning_rate, fused=True)
    steps = params.inversion_steps
    obfuscate = fresh_encryptions(target, "inversion")
    photos, watch = target.train.images, None
    if params.inversion_patience_steps > 0:
        kept, held_back = hold_one_back(target.train.labels, draws)
        photos, watch = photos[kept], _Watch(target, photos[held_back], obfuscate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, watch.rate_factor if watch else lambda step: rate_factor(step, steps, WARM_UP_STEPS)
    )
    for step in tqdm(range(steps), desc=f"inversion {target.name}", unit="step", mininterval=1.0):
        chosen = torch.randint(0, len(photos), (params.inversion_batch_size,), generator=draws)
        wanted = augment(as_float(photos[chosen]).to(target.device), draws)
        hidden = obfuscate(wanted).contiguous(memory_format=torch.channels_last)
        with torch.autocast(target.device, torch.bfloat16):
            rebuilt = crop_like(network(hidden), wanted)
        loss = (rebuilt.float() - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if watch and watch.is_over(network, step + 1):
            break
    if watch:
        network.load_state_dict(watch.weights)
    return network.eval()


def hold_one_back(labels: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return positions of the photos to train on, and of one photo of everybody who has several.

    Where nobody has several, one photo of all is held back.
    """
    order = torch.randperm(len(labels), generator=draws).tolist()
    several = labels.bincount() > 1
    one_of = {int(labels[place]): place for place in order if several[labels[place]]}
    held_back = sorted(one_of.values()) or order[:1]
    kept = [place for place in range(len(labels)) if place not in set(held_back)]
    return torch.tensor(kept), torch.tensor(held_back)


class _Watch:
    """The best weights so far, by the mean absolute error on photos held back, and when training ends."""

    def __init__(self, target: Target, photos: Tensor, obfuscate: Obfuscate) -> None:
        self._photos = as_float(photos)
        self._hidden = torch.cat(
            [obfuscate(self._photos[part].to(target.device)).cpu() for part in in_chunks(len(photos))]
        )
        self._device, self._params = target.device, target.params
        self._best, self._gained_at = math.inf, 0
        self._end = self._params.inversion_steps
        self.weights: dict[str, Tensor] = {}

    def rate_factor(self, step: int) -> float:
        """Return what the learning rate is multiplied by: it rises, stays, and falls before the end."""
        return max(0.0, min(1.0, (step + 1) / WARM_UP_STEPS, (self._end - step) / COOLING_STEPS))

    def is_over(self, network: InversionNetwork, step: int) -> bool:
        """Look at the network after `step` steps, not after all; say whether training has ended."""
        if step % VALIDATION_STEPS and step < self._end:
            return False
        network.eval()
        rebuilt = crop_like(invert(network, self._hidden, self._device), self._photos)
        network.train()
        error = float((rebuilt - self._photos).abs().mean())
        if error < self._best * (1 - LEAST_GAIN):
            self._gained_at = step
        if error < self._best:
            self._best = error
            self.weights = {name: values.clone() for name, values in network.state_dict().items()}
        if step - self._gained_at >= self._params.inversion_patience_steps:
            self._end = min(self._end, step + COOLING_STEPS)
        return step >= self._end


@torch.no_grad()
def invert(network: InversionNetwork, hidden: Tensor, device: str) -> Tensor:
    """Return the rebuilt photos in [0, 1], in the size of `hidden` [n, c, h, w]."""
    rebuilt = [network(hidden[part].to(device)).clamp(0, 1).cpu() for part in in_chunks(len(hidden))]
    return torch.cat(rebuilt)

"""The inversion attacker: rebuild the photo from its obfuscation, then recognise the rebuilt face.

An image-to-image network is trained on (x_e, x) pairs, for keyed methods made under the attacker's own keys;
the clean-trained recogniser names the person in what it rebuilds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.attacks.recognition import fresh_encryptions
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.networks import InversionNetwork, crop_like, place
from ddm_core.seeding import torch_generator
from ddm_core.training import augment, rate_factor


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
    """Train x_e -> x on the training photos by the mean absolute error."""
    params, photos = target.params, target.train.images
    draws = torch_generator(params.seed, f"inversion/{target.name}")
    network = place(InversionNetwork(photos.shape[1]), target.device)
    optimiser = torch.optim.Adam(network.parameters(), params.inversion_learning_rate, fused=True)
    steps = params.inversion_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, steps, 20))
    obfuscate = fresh_encryptions(target, "inversion")
    for _ in tqdm(range(steps), desc=f"inversion {target.name}", unit="step", mininterval=1.0):
        chosen = torch.randint(0, len(photos), (params.batch_size,), generator=draws)
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
    return network.eval()


@torch.no_grad()
def invert(network: InversionNetwork, hidden: Tensor, device: str) -> Tensor:
    """Return the rebuilt photos in [0, 1], in the size of `hidden` [n, c, h, w]."""
    rebuilt = [network(hidden[part].to(device)).clamp(0, 1).cpu() for part in in_chunks(len(hidden))]
    return torch.cat(rebuilt)

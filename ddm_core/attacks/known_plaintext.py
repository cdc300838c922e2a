"""The known-plaintext attacker: many photos and their encryptions under the victim's very key.

It holds (photo, encryption, nonce) triples and trains a network on them that predicts the photo from an
encryption and its nonce. Then it meets new photos, encrypted under the same key and other nonces; the
clean-trained recogniser names the person in what the network rebuilds.

A cipher that neglects its nonce is a fixed function, and falls. Under a pseudo-random function the known
keystreams say nothing about the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ddm_core.attacks.protocol import Outcome, Target
from ddm_core.evaluation import as_float, in_chunks
from ddm_core.keys import NONCE_BYTES
from ddm_core.networks import UNet, crop_like, place
from ddm_core.seeding import derive_bytes, torch_generator
from ddm_core.training import augment, rate_factor

KNOWN_ENCRYPTIONS = 8  # of every training photo, each shifted, mirrored and lit anew, under its own nonce
MOST_TRIPLES = 2560
COMPONENTS = 256  # of the photos, that the linear part can tell
HELD_OUT = 8  # one photo in so many
PENALTIES = (1.0, 0.3, 0.1, 0.01, 0.001)  # of the ridge regression, in units of an encryption's mean square
TRAINING_PASSES = 3  # over the known triples
NONCE_BITS = 8 * NONCE_BYTES
HIGH_BITS = 4  # of a pixel; the lower four hold 0.4 % of its variance


@dataclass(frozen=True)
class Triples:
    """Photos [n, c, h, w] in [0, 1], their encryptions (of h, w or larger), and the nonces' bits [n, 96]."""

    photos: Tensor
    hidden: Tensor
    nonce_bits: Tensor
    photo_numbers: Tensor


class NonceAwareInverter(nn.Module):
    """Rebuilds photos from encryptions and nonces: a linear part, and a part that learns to correct it.

    Both see the nonce, and the highest bits of every pixel: ciphers work on bits, and move pixels far. The
    correcting part scales and shifts its features by the nonce (Perez et al. 2018, FiLM); a U-Net refines
    what is drawn.
    """

    def __init__(
        self, linear: nn.Sequential, channels: int, height: int, width: int, features: int = 256
    ) -> None:
        super().__init__()
        pixels = channels * height * width
        self.shape = channels, height, width
        self.linear = linear
        self.see = nn.Linear(HIGH_BITS * pixels + NONCE_BITS, features)
        nn.init.normal_(self.see.weight)  # the input is scaled instead: Adam's steps do not know the fan-in
        self.condition = nn.Sequential(
            nn.Linear(NONCE_BITS, features), nn.ReLU(), nn.Linear(features, 2 * features)
        )
        self.think = nn.Linear(features, features)
        self.draw = nn.Linear(features, pixels)
        nn.init.zeros_(self.draw.weight)
        nn.init.zeros_(self.draw.bias)
        self.refine = UNet(2 * channels, 16)
        nn.init.zeros_(self.refine.leave.weight)

    def forward(self, hidden: Tensor, nonce_bits: Tensor) -> Tensor:
        """Return rebuilt images [batch, channels, height, width], unbounded."""
        bits = evidence(hidden, nonce_bits)
        scale, shift = self.condition(nonce_bits).chunk(2, dim=1)
        seen = F.relu(self.see(bits / bits.shape[1] ** 0.5)) * (1 + scale) + shift
        drawn: Tensor = self.linear(bits) + self.draw(F.relu(self.think(seen)) + seen)
        drawn = drawn.view(-1, *self.shape)
        refined: Tensor = self.refine(torch.cat([drawn, hidden - 0.5], dim=1))
        return drawn + refined[:, : self.shape[0]]


def linear_inverter(target: Target, known: Triples) -> nn.Sequential:
    """Return a linear map from bits to photos: ridge regression onto the photos' principal components.

    The penalty is the one under which most people are recognised in rebuilt photos that were held out.
    """
    seen, wanted = evidence(known.hidden, known.nonce_bits), pad_like(known.photos, known.hidden).flatten(1)
    seen_mean, wanted_mean = seen.mean(0), wanted.mean(0)
    seen, wanted = seen - seen_mean, wanted - wanted_mean
    components = torch.pca_lowrank(wanted, min(COMPONENTS, *wanted.shape), center=False)[2]
    similarity, codes = seen @ seen.T, wanted @ components
    held_out = known.photo_numbers % HELD_OUT == 0
    labels = target.train.labels[known.photo_numbers[held_out]]

    def solve(rows: Tensor, penalty: float) -> Tensor:
        within = similarity[rows][:, rows]
        ridge = penalty * similarity.diagonal().mean() * torch.eye(len(within))
        solution: Tensor = torch.linalg.solve(within + ridge, codes[rows])
        return solution

    def people_recognised(penalty: float) -> int:
        rebuilt = similarity[held_out][:, ~held_out] @ solve(~held_out, penalty) @ components.T + wanted_mean
        photos = crop_like(rebuilt.view(-1, *known.hidden.shape[1:]), known.photos)
        return int((target.recogniser.recognise(photos.clamp(0, 1)) == labels).sum())

    penalty = max(PENALTIES, key=people_recognised)
    weights = solve(torch.ones_like(held_out), penalty).T @ seen
    see, draw = nn.Linear(*weights.T.shape), nn.Linear(*components.T.shape)
    with torch.no_grad():
        see.weight.copy_(weights)
        see.bias.copy_(-weights @ seen_mean)
        draw.weight.copy_(components)
        draw.bias.copy_(wanted_mean)
    return nn.Sequential(see, draw).requires_grad_(False)


def evidence(hidden: Tensor, nonce_bits: Tensor) -> Tensor:
    """Return all that is seen of each encryption in one row: its pixels' bits, and its nonce's, [n, bits]."""
    bits = weighted_bits(hidden).flatten(1)
    # the nonce has a quarter of the pixels' energy, however large the picture
    return torch.cat([bits, nonce_bits * 0.5 * (hidden[0].numel() / NONCE_BITS) ** 0.5], dim=1)


def weighted_bits(images: Tensor) -> Tensor:
    """Return the highest bits of 8-bit images [n, c, h, w] as signs, each half the last: [n, 4 c, h, w]."""
    levels = (images * 255.0).round().to(torch.uint8)
    planes = [((levels >> (7 - bit)) & 1).float().mul(2).sub(1) / 2**bit for bit in range(HIGH_BITS)]
    return torch.cat(planes, dim=1)


def known_plaintext(target: Target) -> Outcome:
    """Train on known triples, then rebuild and recognise the test photos."""
    repeats = target.params.encryptions_per_photo
    numbers = torch.arange(len(target.test.images)).repeat(repeats)
    test = encrypt(target, as_float(target.test.images[numbers]), numbers, "test")
    network = train_inverter(target, known_triples(target))
    rebuilt = crop_like(_invert(network, test, target.device), test.photos)
    return Outcome(
        labels=target.test.labels.repeat(repeats),
        ranking=target.recogniser.rank(rebuilt),
        reconstructions=rebuilt,
        originals=test.photos,
        hidden=test.hidden,
    )


def known_triples(target: Target) -> Triples:
    """Return what the attacker has seen: the training photos in several versions, under the victim's key."""
    draws = torch_generator(target.params.seed, f"known_plaintext/{target.name}/photos")
    numbers = torch.randperm(len(target.train.images), generator=draws).repeat(KNOWN_ENCRYPTIONS)
    numbers = numbers[:MOST_TRIPLES]
    batches = as_float(target.train.images[numbers]).tensor_split(
        -(-len(numbers) // target.params.batch_size)
    )
    photos = torch.cat([augment(batch, draws) for batch in batches])
    return encrypt(target, photos, numbers, "known")


def encrypt(target: Target, photos: Tensor, numbers: Tensor, purpose: str) -> Triples:
    """Encrypt under the victim's key, each photo under a nonce of its own, all 96 bits drawn at random."""
    name = f"nonces/{target.name}/known_plaintext/{purpose}"
    nonces = [derive_bytes(target.params.seed, f"{name}/{row}", NONCE_BYTES) for row in range(len(photos))]
    hidden = [
        target.victim.encrypt(photos[part].to(target.device), nonces[part]).cpu()
        for part in in_chunks(len(photos))
    ]
    return Triples(photos, torch.cat(hidden), nonce_signs(nonces), numbers)


def nonce_signs(nonces: Sequence[bytes]) -> Tensor:
    """Return the bits of 12-byte nonces, the highest of each byte first, as -1 and 1 [n, 96]."""
    values = torch.frombuffer(bytearray(b"".join(nonces)), dtype=torch.uint8).view(-1, NONCE_BYTES, 1)
    return ((values >> torch.arange(7, -1, -1)) & 1).flatten(1).float() * 2 - 1


def train_inverter(target: Target, known: Triples) -> NonceAwareInverter:
    """Train (x_e, nonce) -> x on the known triples by the mean absolute error."""
    params = target.params
    draws = torch_generator(params.seed, f"known_plaintext/{target.name}/batches")
    network = place(
        NonceAwareInverter(linear_inverter(target, known), *known.hidden.shape[1:]), target.device
    )
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimiser = torch.optim.AdamW(trained, params.inversion_learning_rate, fused=True)
    steps = max(1, TRAINING_PASSES * len(known.photos) // params.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, steps, 20))
    for _ in tqdm(range(steps), desc=f"known plaintext {target.name}", unit="step", mininterval=1.0):
        chosen = torch.randint(0, len(known.photos), (params.batch_size,), generator=draws)
        wanted = known.photos[chosen].to(target.device)
        hidden, bits = known.hidden[chosen].to(target.device), known.nonce_bits[chosen].to(target.device)
        with torch.autocast(target.device, torch.bfloat16):
            rebuilt = crop_like(network(hidden, bits), wanted)
        loss = (rebuilt.float() - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def pad_like(images: Tensor, reference: Tensor) -> Tensor:
    """Repeat the last row and column until the images have the size of `reference`."""
    rows, columns = (reference.shape[side] - images.shape[side] for side in (-2, -1))
    return F.pad(images, (0, columns, 0, rows), mode="replicate")


@torch.no_grad()
def _invert(network: NonceAwareInverter, test: Triples, device: str) -> Tensor:
    rebuilt = [
        network(test.hidden[part].to(device), test.nonce_bits[part].to(device)).clamp(0, 1).cpu()
        for part in in_chunks(len(test.hidden))
    ]
    return torch.cat(rebuilt)

"""How fast an attacker's recogniser trains, against a plain torch loop with the same network.

python -m benchmarks.train_attacker --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figures import load, print_table
from ddm_core.attack_params import AttackParams
from ddm_core.attacks.recognition import train_recogniser
from ddm_core.recognition_networks import ARCHITECTURE
from ddm_core.seeding import make_deterministic

PEOPLE, PHOTOS_A_PERSON, SIDE = 40, 8, 64
TARGET = 0.9


def main() -> None:
    """Alternate both loops, take the medians and print the ratio of each architecture."""
    parser = argparse.ArgumentParser(description="Measure the training of attackers' recognisers.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"load before: {load()}")
    rows = [measure(name, options.epochs, options.threads, options.repeats) for name in ARCHITECTURE]
    print_table(f"{PEOPLE * PHOTOS_A_PERSON} photos of {SIDE} x {SIDE} pixels", rows)
    print(f"load after: {load()}")
    if any(float(row[2].split()[0]) < TARGET for row in rows):
        sys.exit(f"below {TARGET} x the plain loop")


def measure(architecture: str, epochs: int, threads: int, repeats: int) -> tuple[str, str, str, str]:
    """Return one row: the architecture, its images/s, their ratio to the plain loop's, and the target."""
    settings = AttackParams(
        epochs=epochs,
        batch_size=32,
        learning_rate=4e-3,
        inversion_steps=1,
        inversion_learning_rate=1e-3,
        encryptions_per_photo=1,
        threads=threads,
        seed=0,
        architectures=(architecture,),
    )
    make_deterministic(0, "benchmarks/train_attacker", threads)
    images = torch.randint(0, 256, (PEOPLE * PHOTOS_A_PERSON, 1, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.arange(PEOPLE).repeat_interleave(PHOTOS_A_PERSON)
    ours, plain = [], []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        train_recogniser(images, labels, PEOPLE, settings, "benchmark", "cpu")
        between = time.perf_counter()
        plain_loop(architecture, images, labels, epochs)
        ours.append(between - started)
        plain.append(time.perf_counter() - between)
    # The first of each is warm-up. Neighbours are compared: both met the same load.
    ratio = statistics.median(theirs / mine for mine, theirs in zip(ours[1:], plain[1:], strict=True))
    seen = epochs * len(images)
    speed = (
        f"{seen / statistics.median(ours[1:]):.0f} images/s, plain {seen / statistics.median(plain[1:]):.0f}"
    )
    return (architecture, speed, f"{ratio:.2f} x", f"{TARGET} x")


def plain_loop(architecture: str, images: Tensor, labels: Tensor, epochs: int, batch: int = 32) -> None:
    """Train as a tutorial would, without augmentation: in bf16 and channels-last too, and with AdamW."""
    made = ARCHITECTURE[architecture]
    network = (
        made.build(images.shape[1], PEOPLE, AttackParams.width).to(memory_format=torch.channels_last).train()
    )  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.05, fused=True)
    photos = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    for _ in range(epochs):
        order = torch.randperm(len(photos))
        for start in range(0, len(photos), batch):
            chosen = order[start : start + batch]
            with torch.autocast("cpu", torch.bfloat16):
                scores = network(photos[chosen])
            loss = F.cross_entropy(scores.float(), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


if __name__ == "__main__":
    main()

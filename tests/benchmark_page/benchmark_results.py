"""A results folder as the benchmark writes it, with every kind of cell; all names say that it is made up."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from pathlib import Path

from PIL import Image

from ddm_core.files import write_bytes, write_json
from ddm_core.metrics import wilson_interval
from ddm_core.results import (
    ArchitectureTrial,
    AttackResult,
    ChannelUtility,
    CleanLevel,
    CurvePoint,
    IdentitySimilarity,
    VerificationFigures,
)

CHANCE = 1 / 40
ENCRYPTIONS = 320
CHANNELS = ("png", "jpeg95", "jpeg75", "jpeg50", "resize50", "photo_site")
# name, method, settings, keyed, decrypts, worst top-1, PSNR after PNG
OBFUSCATORS = (
    ("invented_none", "none", {}, False, False, 0.99, 100.0),
    ("invented_mosaic8", "mosaic", {"block": 8}, False, False, 0.975, 18.2),
    ("invented_mosaic16", "mosaic", {"block": 16}, False, False, 0.959, 15.9),
    ("invented_blur31", "blur", {"kernel": 31}, False, False, 0.969, 16.8),
    ("invented_blur61", "blur", {"kernel": 61}, False, False, 0.961, 15.1),
    ("invented_p3", "p3", {"threshold": 10, "quality": 90}, False, False, 0.9, 12.7),
    ("invented_permutation", "pixel_permutation", {"seed": 3}, False, False, 0.95, 11.2),
    ("invented_noise", "dp_pix", {"block": 8, "neighbourhood": 16, "epsilon": 1.0}, True, False, 0.31, 11.8),
    ("invented_cipher", "xor_cipher", {}, True, True, 0.026, 100.0),
    ("invented_keyed", "keyed_ddm", {"steps": 10, "quaternions": 2}, True, True, 0.028, 33.3),
)
ATTACKERS = (
    "clean",
    "retrained",
    "inversion",
    "wrong_key",
    "verification",
    "pretrained",
    "transfer",
    "averaging",
    "known_plaintext",
    "learning_curve",
    "nonce_reuse",
)
SHA256 = ("inputs_sha256", "code_sha256", "dataset_sha256", "weights_sha256", "recogniser_sha256")
PROVENANCE = {
    **dict.fromkeys(SHA256, "ab" * 32),
    **{"commit": "c0ffee" * 6 + "c0ff", "dirty": False},
    **{"python": "3.11.0", "torch": "9.9", "numpy": "9.9", "pillow": "9.9"},
    **{"threads": 1, "seconds": 12.5, "finished_at": "2001-02-03T04:05:06+00:00"},
}
WITHOUT_PICTURE = "invented_blur61"
WITH_CURVE = ("invented_none", "invented_mosaic8", "invented_keyed")


def attack_result(obfuscator: str, attacker: str, top1: float, **figures: object) -> AttackResult:
    """A cell that names people."""
    right = round(top1 * ENCRYPTIONS)
    return dataclasses.replace(
        AttackResult(obfuscator, attacker, applicable=True),
        top1=right / ENCRYPTIONS,
        ci95=wilson_interval(right, ENCRYPTIONS),
        n=ENCRYPTIONS,
        chance=CHANCE,
        top5=min(1.0, 4 * top1),
        weights_sha256="ab" * 32,
        seconds=12.5,
        **figures,
    )


def verification(auc: float) -> VerificationFigures:
    return VerificationFigures(
        auc, 0.012, auc, (max(0.0, auc - 0.02), min(1.0, auc + 0.02)), 1 - auc, 0.04, 0.01, 6000
    )


def curve(top1: float) -> tuple[CurvePoint, ...]:
    """Less data at 40 epochs, then less training with all eight photos."""
    points = [(photos, 40, top1 * (0.4 + 0.6 * photos / 8)) for photos in (1, 2, 4, 8)]
    points += [(8, epochs, top1 * (0.5 + epochs / 80)) for epochs in (5, 10, 20)]
    return tuple(
        CurvePoint(
            photos,
            epochs,
            40 * photos * epochs,
            round(share * ENCRYPTIONS) / ENCRYPTIONS,
            wilson_interval(round(share * ENCRYPTIONS), ENCRYPTIONS),
            ENCRYPTIONS,
        )
        for photos, epochs, share in points
    )


def why_not(method: str, keyed: bool, decrypts: bool, attacker: str) -> str | None:
    """Why an attacker does not apply, None where it does."""
    if attacker == "wrong_key" and not decrypts:
        return "there is nothing to decrypt"
    if attacker in ("averaging", "known_plaintext", "nonce_reuse") and not keyed:
        return "there is no key"
    if attacker == "transfer" and method != "mosaic":
        return "there is no other setting of this method"
    return None


def cell_result(entry: tuple, attacker: str, seed: int) -> AttackResult:
    """What one attacker measured against one obfuscator under one seed."""
    name, method, _, keyed, decrypts, worst, _ = entry
    if reason := why_not(method, keyed, decrypts, attacker):
        return AttackResult(name, attacker, applicable=False, reason=reason)
    if attacker == "verification":
        figures = {
            "obfuscated": verification(0.5 + 0.48 * worst if worst > 0.05 else 0.503),
            "linkage": verification(0.5 + 0.4 * worst if worst > 0.05 else 0.498),
        }
        return AttackResult(name, attacker, applicable=True, verification=figures, seconds=3.0)
    top1 = max(0.0, worst - abs(random.Random(f"{name}/{attacker}/{seed}").gauss(0, 0.006)))
    top1 = {"clean": min(top1, 0.1) if 0.05 < worst < 0.98 else top1, "nonce_reuse": 0.97}.get(attacker, top1)
    return attack_result(name, attacker, top1, **further_figures(attacker, top1))


def further_figures(attacker: str, top1: float) -> dict[str, object]:
    """What an attacker reports beside its accuracy."""
    figures: dict[str, dict[str, object]] = {
        "pretrained": {
            "counts_for_gate": False,
            "reason": "recognises only 61.2 % of clean photos",
            "clean_level": CleanLevel(0.612, 0.9, strong_enough=False),
        },
        "inversion": {
            "psnr_db": 16.4,
            "ssim": 0.51,
            "identity_similarity": 0.12 + 0.7 * top1,
            "identity": {
                "recogniser": IdentitySimilarity(0.12 + 0.7 * top1, ENCRYPTIONS, 0.131, 0.05, 0.771),
                "dlib_resnet": IdentitySimilarity(0.8 + 0.1 * top1, 80, 0.823, 0.79, None),
            },
        },
        "learning_curve": {"curve": curve(top1)},
        "nonce_reuse": {"counts_for_gate": False},
        "retrained": {
            "architecture": "resnet_arcface",
            "trials": (
                ArchitectureTrial("cnn", 31, 0.642, 0.623, chosen=False),
                ArchitectureTrial("resnet_arcface", 40, 0.887, 0.861, chosen=True),
            ),
        },
    }
    return figures.get(attacker, {})


def png(rows: int, shade: int) -> bytes:
    """Eight columns of plain squares, a row lighter than the one above."""
    picture = Image.new("RGB", (8 * 24, rows * 24), "white")
    for row in range(rows):
        for column in range(8):
            square = ((column * 24) + 1, row * 24 + 1, column * 24 + 23, row * 24 + 23)
            picture.paste((shade, 60 + 20 * column, 80 + 40 * row), square)
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def results_content(seeds: tuple[int, ...] = (0, 1)) -> dict:
    """The content of results.json, as plain data."""
    cells = [
        {
            "schema_version": 1,
            "stage": "attack",
            "obfuscator": entry[0],
            "settings": {"method": entry[1], **entry[2]},
            "attacker": attacker,
            "seed": seed,
            "result": dataclasses.asdict(cell_result(entry, attacker, seed)),
            "provenance": PROVENANCE,
        }
        for seed in seeds
        for entry in OBFUSCATORS
        for attacker in ATTACKERS
        if attacker != "learning_curve" or entry[0] in WITH_CURVE
        if (entry[0], attacker) != ("invented_noise", "retrained")  # a cell that nobody ran
    ]
    utility = [
        {
            "obfuscator": entry[0],
            "seed": seed,
            "channels": {
                channel: dataclasses.asdict(
                    ChannelUtility(
                        (13.0 if entry[1] == "xor_cipher" else entry[6] - 0.7 * i) if i else entry[6],
                        0.9 - 0.02 * i,
                        0.98 - 0.01 * i,
                        (0.95 - 0.01 * i, 0.99),
                        80,
                    )
                )
                for i, channel in enumerate(CHANNELS)
            },
        }
        for seed in seeds
        for entry in OBFUSCATORS
    ]
    return json.loads(
        json.dumps(
            {
                "schema_version": 2,
                "dataset": {
                    "name": "invented faces",
                    "identities": 40,
                    "train_photos": 320,
                    "test_photos": 80,
                    "image_size": 64,
                    "channels": 1,
                    "chance": CHANCE,
                },
                "obfuscators": {
                    name: {
                        "method": method,
                        "settings": {"method": method, **settings},
                        "keyed": keyed,
                        "decrypts": decrypts,
                        "seconds_to_train": 1.0,
                    }
                    for name, method, settings, keyed, decrypts, _, _ in OBFUSCATORS
                },
                "cells": cells,
                "utility": utility,
                "sanity": [
                    {
                        "attacker": "retrained",
                        "obfuscator": "invented_blur31",
                        "seed": seed,
                        "measured": 0.97,
                        "limit": 0.9,
                        "passed": True,
                        "at_most": False,
                    }
                    for seed in seeds
                ],
                "runs": [
                    {
                        "command": "ddm benchmark --seeds 2",
                        "commit": PROVENANCE["commit"],
                        "seconds": 2797.4,
                        "processes": 2,
                        "ran": 200,
                        "reused": 7,
                        "failed": 0,
                        "finished": True,
                        "ended_at": "2001-02-03T04:05:06+00:00",
                    }
                ],
                "generated_by": {"commit": PROVENANCE["commit"], "command": "ddm benchmark --seeds 2"},
            }
        )
    )


def write_results(folder: Path, content: dict | None = None) -> Path:
    """Write results.json and the pictures beside it; return the folder."""
    content = content or results_content()
    write_json(folder / "results.json", content)
    for cell in content["cells"]:
        if cell["attacker"] == "inversion":
            place = folder / "cells" / f"seed{cell['seed']}" / cell["obfuscator"] / "inversion"
            write_bytes(place / "pictures.png", png(3, 150))
    for entry in content["utility"]:
        if entry["obfuscator"] != WITHOUT_PICTURE:
            place = folder / "utility" / f"seed{entry['seed']}" / entry["obfuscator"]
            write_bytes(place / "pictures.png", png(4, 90))
    return folder

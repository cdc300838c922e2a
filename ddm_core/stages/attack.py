"""One cell of the attack table: one attacker against one obfuscator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.files import atomic_directory, write_bytes
from ddm_core.obfuscators.store import describe, load_obfuscator
from ddm_core.params import AttackParams
from ddm_core.results import ATTACKERS, CONTROLS, PICTURES, RESULT, AttackResult, write_result

if TYPE_CHECKING:
    from ddm_core.attacks.protocol import Outcome, Target


def run(
    params: AttackParams,
    *,
    attacker: str,
    prepared: Path,
    model: Path,
    recogniser: Path,
    result: Path,
) -> AttackResult:
    """Attack the obfuscator in the folder `model`; write the folder `result` at once.

    It gets result.json, and where the attack applies confusion.json and perhaps pictures.png.
    The obfuscator's name is the folder's name.

    Raises:
        DdmError: unknown attacker, missing or damaged inputs.
    """
    if attacker not in ATTACKERS + CONTROLS:
        raise DdmError(f"unknown attacker '{attacker}'{did_you_mean(attacker, ATTACKERS + CONTROLS)}")
    started = time.perf_counter()
    reason = _why_not(attacker, model)
    with atomic_directory(result) as folder:
        if reason:
            measured = AttackResult(model.name, attacker, applicable=False, reason=reason)
        else:
            measured = _attack(params, attacker, prepared, model, recogniser, folder, started)
        write_result(folder / RESULT, measured)
    return measured


def _why_not(attacker: str, model: Path) -> str | None:
    """Answer from the description alone: a cell that makes no sense costs no torch import."""
    description = describe(model)
    if attacker == "wrong_key" and not description.decrypts:
        return f"{description.params.method} has no decryption to try"
    if attacker == "nonce_reuse" and not description.keyed:
        return f"{description.params.method} has no nonce to reuse"
    return None


def _attack(  # noqa: PLR0917 - the stage's own inputs, passed on
    params: AttackParams,
    attacker: str,
    prepared: Path,
    model: Path,
    recogniser: Path,
    folder: Path,
    started: float,
) -> AttackResult:
    from ddm_core.attacks.attackers import ATTACK
    from ddm_core.checkpoints import weights_digest
    from ddm_core.confusion import write_confusion
    from ddm_core.metrics import psnr_db, ssim, wilson_interval
    from ddm_core.seeding import make_deterministic

    make_deterministic(params.seed, f"attack/{model.name}/{attacker}", params.threads)
    target = _target(params, prepared, model, recogniser)
    outcome = ATTACK[attacker](target)
    labels, predictions = outcome.labels.tolist(), outcome.predictions.tolist()
    write_confusion(folder, target.test.identities, labels, predictions)
    right, n = int((outcome.predictions == outcome.labels).sum()), len(outcome.labels)
    psnr = similarity = None
    if outcome.reconstructions is not None and outcome.originals is not None:
        psnr = float(psnr_db(outcome.reconstructions, outcome.originals).mean())
        similarity = float(ssim(outcome.reconstructions, outcome.originals).mean())
        write_bytes(folder / PICTURES, _pictures(outcome, len(target.test.images)))
    return AttackResult(
        obfuscator=model.name,
        attacker=attacker,
        applicable=True,
        counts_for_gate=attacker not in CONTROLS,
        top1=right / n,
        ci95=wilson_interval(right, n),
        n=n,
        psnr_db=psnr,
        ssim=similarity,
        weights_sha256=weights_digest(model),
        seconds=round(time.perf_counter() - started, 1),
    )


def _target(params: AttackParams, prepared: Path, model: Path, recogniser: Path) -> Target:
    from ddm_core.attacks.protocol import Target
    from ddm_core.data.shards import load_photos
    from ddm_core.evaluation import evaluation_key
    from ddm_core.stages.recognise import load_recogniser
    from ddm_core.training import device

    where = device()
    victim, attacker = (
        load_obfuscator(model, master_key=evaluation_key(params.seed, owner), device=where)
        for owner in ("victim", "attacker")
    )
    return Target(
        name=model.name,
        victim=victim,
        attacker=attacker,
        train=load_photos(prepared, split="train"),
        test=load_photos(prepared, split="test"),
        recogniser=load_recogniser(recogniser, where),
        params=params,
        device=where,
    )


def _pictures(outcome: Outcome, photos: int) -> bytes:
    from ddm_core.grids import example_columns, labelled_grid

    assert outcome.originals is not None
    assert outcome.hidden is not None
    assert outcome.reconstructions is not None
    rows = {
        "photo": outcome.originals,
        "what the attacker sees": outcome.hidden,
        "what it rebuilds": outcome.reconstructions,
    }
    return labelled_grid({label: images[example_columns(photos)] for label, images in rows.items()})

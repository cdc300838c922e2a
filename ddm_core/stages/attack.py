"""One cell of the attack table: one attacker against one obfuscator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.attacks.applicability import DoesNotApplyError
from ddm_core.attacks.face_embedding import NOT_INSTALLED, is_installed
from ddm_core.errors import DdmError, did_you_mean
from ddm_core.files import atomic_directory, write_bytes
from ddm_core.obfuscators.store import describe, load_obfuscator
from ddm_core.params import AttackParams
from ddm_core.results import (
    ATTACKERS,
    CONTROLS,
    LAB_ATTACKERS,
    PICTURES,
    RESULT,
    AttackResult,
    write_result,
)

if TYPE_CHECKING:
    from ddm_core.attacks.protocol import Outcome, Target

NEEDS_KEY = {
    "nonce_reuse": "no nonce to reuse",
    "averaging": "one obfuscation of a photo only, so there is nothing to average",
    "known_plaintext": "no secret to learn from known photos",
}
KNOWN = ATTACKERS + LAB_ATTACKERS + CONTROLS


def run(
    params: AttackParams,
    *,
    attacker: str,
    prepared: Path,
    model: Path,
    recogniser: Path,
    result: Path,
    others: Sequence[Path] = (),
) -> AttackResult:
    """Attack the obfuscator in the folder `model`; write the folder `result` at once.

    It gets result.json, and where the attack applies confusion.json and perhaps pictures.png.
    The obfuscator's name is the folder's name. `others` are folders of further obfuscators, for the attacker
    that trains on one setting of a method and tries another (transfer).

    Raises:
        DdmError: unknown attacker, missing or damaged inputs.
    """
    if attacker not in KNOWN:
        raise DdmError(f"unknown attacker '{attacker}'{did_you_mean(attacker, KNOWN)}")
    started = time.perf_counter()
    siblings = _same_method(model, others)
    reason = _why_not(attacker, model, siblings)
    with atomic_directory(result) as folder:
        if reason:
            measured = AttackResult(model.name, attacker, applicable=False, reason=reason)
        else:
            from ddm_core.seeding import make_deterministic

            make_deterministic(params.seed, f"attack/{model.name}/{attacker}", params.threads)
            target = _target(params, prepared, model, recogniser, siblings)
            try:
                measured = _attack(params, attacker, target, model, folder, started)
            except DoesNotApplyError as found:  # only the photos told
                measured = AttackResult(
                    model.name, attacker, applicable=False, reason=str(found), clean_level=found.clean_level
                )
        write_result(folder / RESULT, measured)
    return measured


def _same_method(model: Path, others: Sequence[Path]) -> list[Path]:
    method = describe(model).params.method
    return [other for other in others if other.name != model.name and describe(other).params.method == method]


def _why_not(attacker: str, model: Path, siblings: Sequence[Path]) -> str | None:
    """Answer from the descriptions alone: a cell that makes no sense costs no torch import."""
    description = describe(model)
    method = description.params.method
    if attacker == "wrong_key" and not description.decrypts:
        return f"{method} has no decryption to try"
    if attacker in NEEDS_KEY and not description.randomised:
        return f"{method} has {NEEDS_KEY[attacker]}"
    if attacker == "pretrained" and not is_installed():
        return NOT_INSTALLED
    if attacker == "transfer" and not siblings:
        return f"{method} has no other setting to learn from"
    return None


def _target(
    params: AttackParams, prepared: Path, model: Path, recogniser: Path, siblings: Sequence[Path]
) -> Target:
    from ddm_core.attacks.protocol import Target
    from ddm_core.data.shards import load_photos
    from ddm_core.evaluation import evaluation_key
    from ddm_core.stages.recognise import load_recogniser
    from ddm_core.training import device

    where = device()
    victim, attacker = (evaluation_key(params.seed, owner) for owner in ("victim", "attacker"))
    return Target(
        name=model.name,
        victim=load_obfuscator(model, master_key=victim, device=where),
        attacker=load_obfuscator(model, master_key=attacker, device=where),
        train=load_photos(prepared, split="train"),
        test=load_photos(prepared, split="test"),
        recogniser=load_recogniser(recogniser, where),
        params=params,
        device=where,
        prepared=prepared,
        others={other.name: load_obfuscator(other, master_key=attacker, device=where) for other in siblings},
    )


def _attack(  # noqa: PLR0917 - the stage's own inputs, passed on
    params: AttackParams, attacker: str, target: Target, model: Path, folder: Path, started: float
) -> AttackResult:
    from ddm_core.attacks.attackers import ATTACK
    from ddm_core.checkpoints import weights_digest

    outcome = ATTACK[attacker](target)
    return AttackResult(
        obfuscator=model.name,
        attacker=attacker,
        applicable=True,
        counts_for_gate=attacker not in CONTROLS,
        weights_sha256=weights_digest(model),
        architecture=outcome.architecture,
        verification=outcome.verification,
        curve=outcome.curve,
        trials=outcome.trials,
        clean_level=outcome.clean_level,
        **_recognition_figures(outcome, target, folder),
        **_reconstruction_figures(outcome, target, folder),
        seconds=round(time.perf_counter() - started, 1),
    )


def _recognition_figures(outcome: Outcome, target: Target, folder: Path) -> dict[str, Any]:
    if outcome.ranking is None or outcome.labels is None:
        return {}
    from ddm_core.confusion import write_confusion
    from ddm_core.metrics import wilson_interval

    write_confusion(folder, target.test.identities, outcome.labels.tolist(), outcome.predictions.tolist())
    hits = outcome.ranking == outcome.labels[:, None]
    right, n = int(hits[:, 0].sum()), len(outcome.labels)
    return {
        "top1": right / n,
        "ci95": wilson_interval(right, n),
        "n": n,
        "top5": int(hits.any(1).sum()) / n,
        "chance": 1 / len(target.test.identities),
    }


def _reconstruction_figures(outcome: Outcome, target: Target, folder: Path) -> dict[str, Any]:
    if outcome.reconstructions is None or outcome.originals is None:
        return {}
    from ddm_core.attacks.identity import identity_similarities
    from ddm_core.metrics import psnr_db, ssim

    write_bytes(folder / PICTURES, _pictures(outcome, len(target.test.images)))
    identity = identity_similarities(target, outcome)
    return {
        "psnr_db": float(psnr_db(outcome.reconstructions, outcome.originals).mean()),
        "ssim": float(ssim(outcome.reconstructions, outcome.originals).mean()),
        "identity_similarity": identity["recogniser"].reconstruction,
        "identity": identity,
    }


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

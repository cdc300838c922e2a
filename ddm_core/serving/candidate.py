"""A trained model on its way into the registry: its files, what was measured of it, and how it was judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddm_core.files import sha256_bytes
from ddm_core.gate import Verdict, measured
from ddm_core.tracking import DATASET_TAG, WEIGHTS_TAG

EVIDENCE_TAG = "ddm.evidence_sha256"
EVIDENCE_CONTENT_TAG = "ddm.evidence"


@dataclass(frozen=True)
class Candidate:
    """One obfuscator (`folder` holds its files) under the registered `name`.

    `evidence` is its entry of metrics.json, `chance` the accuracy of guessing (a fraction). It was measured
    on the photos of `dataset_digest`; `dataset` is what their source says of itself.
    """

    name: str
    obfuscator: str
    folder: Path
    weights_digest: str
    evidence: Mapping[str, Any]
    verdict: Verdict
    chance: float
    dataset_digest: str
    commit: str
    dataset: Mapping[str, str] = field(default_factory=dict)


def identity_tags(candidate: Candidate) -> dict[str, str]:
    """Return what makes a version this one and no other: the same weights, measured the same."""
    content = canonical_evidence(candidate)
    return {
        WEIGHTS_TAG: candidate.weights_digest,
        EVIDENCE_TAG: sha256_bytes(f"{candidate.dataset_digest}\n{content}".encode()),
    }


def version_tags(candidate: Candidate) -> dict[str, str]:
    """Return every tag of the version: identity, origin, verdict, headline figures, and the evidence."""
    figures = {"worst_case_top1": measured(candidate.evidence, "worst_case", "top1")}
    figures |= {check.name: check.measured for check in candidate.verdict.checks}
    return {
        **identity_tags(candidate),
        "ddm.obfuscator": candidate.obfuscator,
        "ddm.method": str(candidate.evidence.get("method", "unknown")),
        "ddm.commit": candidate.commit,
        DATASET_TAG: candidate.dataset_digest,
        "ddm.gate": "passed" if candidate.verdict.passed else "failed",
        "ddm.gate_failures": candidate.verdict.failures or "none",
        EVIDENCE_CONTENT_TAG: canonical_evidence(candidate),
        **{f"ddm.{name}": f"{value:.6g}" for name, value in figures.items() if value is not None},
    }


def canonical_evidence(candidate: Candidate) -> str:
    """Return the evidence as JSON, the same text for the same content."""
    return json.dumps(candidate.evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def summary(candidate: Candidate) -> str:
    """Return what a reader of the registry needs first: verdict, worst attacker, restored quality."""
    verdict = "Passed the gate." if candidate.verdict.passed else "FAILED the gate, not for use."
    top1 = measured(candidate.evidence, "worst_case", "top1")
    upper = measured(candidate.evidence, "worst_case", "ci95", 1)
    worst = f"Worst attacker: top-1 {percent(top1)}, at most {percent(upper)} with 95 % confidence"
    psnr = {
        check.name.removeprefix("psnr_db_"): check.measured
        for check in candidate.verdict.checks
        if check.name.startswith("psnr_db_")
    }
    restored = ", ".join(f"{decibels(value)} after {channel}" for channel, value in psnr.items())
    return f"{verdict} {worst} (chance {percent(candidate.chance)}). Restored photos: {restored}."


def percent(fraction: float | None) -> str:
    """Return a fraction as per cent, or that it was not measured."""
    return "not measured" if fraction is None else f"{100 * fraction:.1f} %"


def decibels(value: float | None) -> str:
    """Return decibels, or that they were not measured."""
    return "not measured" if value is None else f"{value:.2f} dB"

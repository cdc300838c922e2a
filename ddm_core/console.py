"""What a stage says when it is done: its result in one or a few lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddm_core.places import Place
from ddm_core.reporting.wording import decibels, interval, percent
from ddm_core.results import AttackResult, UtilityResult, VerificationFigures

if TYPE_CHECKING:
    from ddm_core.stages.fetch import FetchResult
    from ddm_core.stages.prepare import PrepareResult
    from ddm_core.stages.recognise import RecogniseResult
    from ddm_core.stages.register import RegisterResult
    from ddm_core.stages.train import TrainResult


def fetched(result: FetchResult, raw: Place) -> str:
    """Return how many photos of how many people lie where, what was left out, and the digest to pin by."""
    parts = [f"{raw}: {result.photos} photos of {result.identities} people, source {result.source}"]
    if result.rejected:
        parts.append(f"{result.rejected} files rejected (rejected.jsonl)")
    if result.excluded_photos:
        parts.append(f"{result.excluded_photos} photos of {result.excluded_people} excluded people left out")
    if result.missing or result.dropped:
        parts.append(
            f"{result.missing} listed faces without an image, {result.dropped} dropped by corrections"
        )
    if result.origin:
        parts.append(result.origin)
    return ", ".join([*parts, f"digest {result.digest}"])


def prepared(result: PrepareResult, folder: Place) -> str:
    """Return the split's sizes, the unreadable files and the dataset's digest."""
    counts = result.counts
    return (
        f"{folder}: {counts.train} train and {counts.test} test photos of {counts.identities} people, "
        f"{counts.quarantined} of {counts.found} files quarantined; dataset {result.dataset_digest}"
    )


def trained(result: TrainResult, model: Place) -> str:
    """Return how long it took and the digest of what was written."""
    return f"{model}: ready after {result.seconds:.1f} s, SHA-256 {result.weights_sha256}"


def recognised(result: RecogniseResult, folder: Place) -> str:
    """Return how well the recogniser names people in clean photos."""
    accuracy = _accuracy(result.clean_top1, result.ci95)
    return f"{folder}: names {accuracy} of {result.n} clean test photos"


def attacked(result: AttackResult) -> str:
    """Return how often the attacker was right, or why there was nothing to try."""
    cell = f"{result.attacker} against {result.obfuscator}"
    if not result.applicable:
        return f"{cell}: not applicable, {result.reason}"
    if result.top1 is None or result.ci95 is None:
        verified = result.verification or {}
        return f"{cell}: {', '.join(_verified(kind, pairs) for kind, pairs in verified.items())}"
    line = f"{cell}: names {_accuracy(result.top1, result.ci95)} of {result.n} obfuscated test photos"
    if result.psnr_db is None or result.ssim is None:
        return line
    return f"{line}; what it rebuilds: {decibels(result.psnr_db)} dB, SSIM {result.ssim:.2f}"


def useful(result: UtilityResult) -> str:
    """Return one line a channel: quality, and how often the recogniser still names the person."""
    received = "decrypted" if result.decrypts else "obfuscated, for it cannot be decrypted"
    lines = [f"{result.obfuscator}, {received}:"]
    for name, channel in result.channels.items():
        accuracy = _accuracy(channel.recognition_top1, channel.recognition_ci95)
        quality = f"{decibels(channel.psnr_db):>5} dB, SSIM {channel.ssim:.2f}"
        lines.append(f"  after {name:<9} {quality}, names {accuracy} of {channel.n}")
    return "\n".join(lines)


def registered(result: RegisterResult) -> str:
    """Return one line a model: its version and what became of it."""
    return "\n".join(f"{model.name} version {model.version}: {model.reason}" for model in result.models)


def _verified(kind: str, figures: VerificationFigures) -> str:
    error = figures.accuracy_standard_error
    spread = "" if error is None else f" ± {100 * error:.2f}"
    return (
        f"{kind} pairs told apart with AUC {figures.auc:.3f}, accuracy {100 * figures.accuracy:.2f}{spread} %"
        f" of {figures.pairs}"
    )


def _accuracy(top1: float, ci95: tuple[float, ...]) -> str:
    return f"{percent(top1)} % ({interval(ci95)})"

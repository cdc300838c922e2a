"""What the receiver gets: picture quality and recognisability after decryption, channel by channel.

An obfuscator without decryption is measured on the obfuscated photo itself: that is all a receiver has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.channel_names import distinct_channels
from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, write_bytes
from ddm_core.obfuscators.store import describe, load_obfuscator
from ddm_core.params import UtilityParams
from ddm_core.results import PICTURES, RESULT, ChannelUtility, UtilityResult, write_result

if TYPE_CHECKING:
    from torch import Tensor

    from ddm_core.attacks.recognition import Recogniser
    from ddm_core.evaluation import Encrypted
    from ddm_core.obfuscators.protocol import Obfuscator

PICTURED = {"jpeg75": "after JPEG 75", "resize50": "after half-size", "photo_site": "after photo site"}
"""The channels whose outcome is a row of the pictures, with the row's label."""


def run(
    params: UtilityParams, *, prepared: Path, model: Path, recogniser: Path, result: Path
) -> UtilityResult:
    """Measure the obfuscator in the folder `model`; write `result`/result.json and pictures.png, at once.

    Raises:
        DdmError: missing or damaged inputs, or no channel that makes sense for these photos.
    """
    from ddm_core.checkpoints import weights_digest
    from ddm_core.data.shards import load_photos
    from ddm_core.evaluation import encrypt_photos, evaluation_key
    from ddm_core.exact_channels import EXACT_CHANNELS
    from ddm_core.grids import example_columns
    from ddm_core.seeding import make_deterministic
    from ddm_core.stages.recognise import load_recogniser
    from ddm_core.training import device

    started = time.perf_counter()
    make_deterministic(params.seed, f"utility/{model.name}", params.threads)
    where = device()
    obfuscator = load_obfuscator(model, master_key=evaluation_key(params.seed, "victim"), device=where)
    judge = load_recogniser(recogniser, where)
    test = load_photos(prepared, split="test")
    purpose = f"{model.name}/utility"
    encrypted = encrypt_photos(obfuscator, test, params.encryptions_per_photo, params.seed, purpose, where)
    channels, shown = {}, {}
    for name in _channels_for(encrypted.hidden, params):
        received = _decrypt(obfuscator, EXACT_CHANNELS[name](encrypted.hidden), encrypted.nonces, where)
        channels[name] = _measure(received, encrypted, judge)
        shown[name] = received[example_columns(encrypted.photos)].clone()  # the rest may be large
    measured = UtilityResult(
        obfuscator=model.name,
        decrypts=describe(model).decrypts,
        channels=channels,
        weights_sha256=weights_digest(model),
        seconds=round(time.perf_counter() - started, 1),
    )
    with atomic_directory(result) as folder:
        write_result(folder / RESULT, measured)
        write_bytes(folder / PICTURES, _pictures(params, obfuscator, encrypted, shown, where))
    return measured


def _channels_for(hidden: Tensor, params: UtilityParams) -> tuple[str, ...]:
    channels = distinct_channels(params.channels, hidden.shape[1])
    if not channels:
        listed = ", ".join(params.channels)
        raise DdmError(f"utility: channels: grey photos have no chroma for {listed} to keep; add jpeg75")
    return channels


def _decrypt(obfuscator: Obfuscator, images: Tensor, nonces: Sequence[bytes], where: str) -> Tensor:
    from ddm_core.evaluation import decrypt_photos
    from ddm_core.obfuscators.protocol import DecryptingObfuscator

    if not isinstance(obfuscator, DecryptingObfuscator):
        return images
    return decrypt_photos(obfuscator, images, nonces, where)


def _measure(received: Tensor, encrypted: Encrypted, judge: Recogniser) -> ChannelUtility:
    from ddm_core.metrics import psnr_db, ssim, wilson_interval

    right, n = int((judge.recognise(received) == encrypted.labels).sum()), len(encrypted.labels)
    return ChannelUtility(
        psnr_db=float(psnr_db(received, encrypted.originals).mean()),
        ssim=float(ssim(received, encrypted.originals).mean()),
        recognition_top1=right / n,
        recognition_ci95=wilson_interval(right, n),
        n=n,
    )


def _pictures(
    params: UtilityParams,
    obfuscator: Obfuscator,
    encrypted: Encrypted,
    received: dict[str, Tensor],
    where: str,
) -> bytes:
    from ddm_core.evaluation import evaluation_key
    from ddm_core.grids import example_columns, labelled_grid
    from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator

    columns = example_columns(encrypted.photos)
    rows = {"photo x": encrypted.originals[columns], "obfuscated x_e": encrypted.hidden[columns]}
    decrypts = isinstance(obfuscator, DecryptingObfuscator)
    if decrypts and "png" in received:
        rows["decrypted"] = received["png"]
    if isinstance(obfuscator, KeyedObfuscator):
        wrong = obfuscator.with_key(evaluation_key(params.seed, "wrong"))
        rows["wrong key"] = _decrypt(wrong, encrypted.hidden, encrypted.nonces, where)[columns]
    if decrypts:
        rows |= {label: received[name] for name, label in PICTURED.items() if name in received}
    return labelled_grid(rows)

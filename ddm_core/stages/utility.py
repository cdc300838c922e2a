"""What the receiver gets: picture quality and recognisability after decryption, channel by channel.

An obfuscator without decryption is measured on the obfuscated photo itself: that is all a receiver has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.files import atomic_directory, write_bytes
from ddm_core.obfuscators.store import describe, load_obfuscator
from ddm_core.params import UtilityParams
from ddm_core.results import PICTURES, RESULT, ChannelUtility, UtilityResult, write_result

if TYPE_CHECKING:
    from torch import Tensor

    from ddm_core.attacks.recognition import Recogniser
    from ddm_core.evaluation import Encrypted
    from ddm_core.obfuscators.protocol import Obfuscator


def run(
    params: UtilityParams, *, prepared: Path, model: Path, recogniser: Path, result: Path
) -> UtilityResult:
    """Measure the obfuscator in the folder `model`; write `result`/result.json and pictures.png, at once.

    Raises:
        DdmError: missing or damaged inputs.
    """
    from ddm_core.channel import CHANNELS
    from ddm_core.checkpoints import weights_digest
    from ddm_core.data.shards import load_photos
    from ddm_core.evaluation import encrypt_photos, evaluation_key
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
    received = {
        name: _decrypt(obfuscator, channel(encrypted.hidden), encrypted.nonces, where)
        for name, channel in CHANNELS.items()
    }
    measured = UtilityResult(
        obfuscator=model.name,
        decrypts=describe(model).decrypts,
        channels={name: _measure(images, encrypted, judge) for name, images in received.items()},
        weights_sha256=weights_digest(model),
        seconds=round(time.perf_counter() - started, 1),
    )
    with atomic_directory(result) as folder:
        write_result(folder / RESULT, measured)
        write_bytes(folder / PICTURES, _pictures(params, obfuscator, encrypted, received, where))
    return measured


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

    rows = {"photo x": encrypted.originals, "obfuscated x_e": encrypted.hidden}
    if isinstance(obfuscator, DecryptingObfuscator):
        rows["decrypted"] = received["png"]
    if isinstance(obfuscator, KeyedObfuscator):
        wrong = obfuscator.with_key(evaluation_key(params.seed, "wrong"))
        rows["wrong key"] = _decrypt(wrong, encrypted.hidden, encrypted.nonces, where)
    if isinstance(obfuscator, DecryptingObfuscator):
        rows |= {"after JPEG 75": received["jpeg75"], "after half-size": received["resize50"]}
    return labelled_grid({label: images[example_columns(encrypted.photos)] for label, images in rows.items()})

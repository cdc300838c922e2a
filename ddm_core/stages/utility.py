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

    from ddm_core.attacks.protocol import Encrypted
    from ddm_core.attacks.recognition import Recogniser
    from ddm_core.obfuscators.protocol import Obfuscator

GRID_COLUMNS = 8


def run(
    params: UtilityParams, *, prepared: Path, model: Path, recogniser: Path, result: Path
) -> UtilityResult:
    """Measure the obfuscator in the folder `model`; write `result`/result.json and pictures.png, at once.

    Raises:
        DdmError: missing or damaged inputs.
    """
    from ddm_core.attacks.protocol import evaluation_key
    from ddm_core.channel import CHANNELS
    from ddm_core.checkpoints import weights_digest
    from ddm_core.seeding import make_deterministic
    from ddm_core.stages.recognise import load_recogniser
    from ddm_core.training import device

    started = time.perf_counter()
    make_deterministic(params.seed, f"utility/{model.name}", params.threads)
    where = device()
    obfuscator = load_obfuscator(model, master_key=evaluation_key(params.seed, "victim"), device=where)
    judge = load_recogniser(recogniser, where)
    encrypted = _encrypt(params, prepared, model, obfuscator, where)
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


def _encrypt(
    params: UtilityParams, prepared: Path, model: Path, obfuscator: Obfuscator, where: str
) -> Encrypted:
    import torch

    from ddm_core.attacks.protocol import Encrypted, as_float, in_chunks
    from ddm_core.data.shards import load_photos
    from ddm_core.keys import nonce_stream

    test = load_photos(prepared, split="test")
    repeats = params.encryptions_per_photo if describe(model).keyed else 1
    photos = as_float(test.images).repeat(repeats, 1, 1, 1)
    nonces = list(nonce_stream(params.seed, f"{model.name}/utility", len(photos)))
    parts = [
        obfuscator.encrypt(photos[part].to(where), nonces[part]).cpu() for part in in_chunks(len(photos))
    ]
    return Encrypted(torch.cat(parts), photos, test.labels.repeat(repeats), nonces)


def _decrypt(obfuscator: Obfuscator, images: Tensor, nonces: Sequence[bytes], where: str) -> Tensor:
    import torch

    from ddm_core.attacks.protocol import in_chunks
    from ddm_core.obfuscators.protocol import DecryptingObfuscator

    if not isinstance(obfuscator, DecryptingObfuscator):
        return images
    parts = [
        obfuscator.decrypt(images[part].to(where), nonces[part]).cpu() for part in in_chunks(len(images))
    ]
    return torch.cat(parts)


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
    from ddm_core.attacks.protocol import evaluation_key
    from ddm_core.grids import labelled_grid
    from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator

    rows = {"photo x": encrypted.originals, "obfuscated x_e": encrypted.hidden}
    if isinstance(obfuscator, DecryptingObfuscator):
        rows["decrypted"] = received["png"]
    if isinstance(obfuscator, KeyedObfuscator):
        wrong = obfuscator.with_key(evaluation_key(params.seed, "wrong"))
        rows["wrong key"] = _decrypt(wrong, encrypted.hidden, encrypted.nonces, where)
    if isinstance(obfuscator, DecryptingObfuscator):
        rows |= {"after JPEG 75": received["jpeg75"], "after half-size": received["resize50"]}
    step = max(1, len(encrypted.originals) // GRID_COLUMNS)
    return labelled_grid({label: images[::step][:GRID_COLUMNS] for label, images in rows.items()})

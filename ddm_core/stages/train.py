"""Trains one obfuscator of the `train` section and writes it as a model folder.

Of several processes that train together rank 0 runs the stage; the others help it and write nothing.

A classical method has nothing to learn; its folder holds its settings alone, so that every later stage
treats all obfuscators alike.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.data_parallel import ALONE, Ranks
from ddm_core.errors import DdmError
from ddm_core.files import atomic_directory, write_bytes, write_json, write_text
from ddm_core.learned_params import LEARNED, LearnedParams
from ddm_core.obfuscators.preparation import write_untrained
from ddm_core.obfuscators.store import Description, TrainingData, load_obfuscator, save_obfuscator
from ddm_core.params import ObfuscatorParams
from ddm_core.results import PICTURES, TIMING
from ddm_core.strict import parse

if TYPE_CHECKING:
    from torch import Tensor

    from ddm_core.checkpoint_options import CheckpointOptions
    from ddm_core.tracking import Log
    from ddm_core.training import Observation
    from ddm_core.training_checkpoints import Checkpoints
    from ddm_core.training_photos import Photos

HISTORY_COLUMNS = (
    "step",
    "loss",
    "reconstruction_l1",
    "discriminator_bce",
    "jsd_lower_bound",
    "psnr_db",
    "learning_rate",
    "gradient_norm",
)
# Apart from the history, which is the same every time.
SPEED_COLUMNS = (
    "step",
    "images_per_second",
    "data_seconds",
    "forward_backward_seconds",
    "optimiser_seconds",
    "peak_memory_bytes",
    "gpu_utilisation",
)


@dataclass(frozen=True)
class TrainResult:
    """The SHA-256 of what was written (weights, or settings where there are none), and how long it took."""

    weights_sha256: str
    seconds: float


def run(
    params: ObfuscatorParams,
    *,
    name: str,
    prepared: Path | str,
    model: Path,
    history: Path,
    tracked: bool = True,
    checkpoints: CheckpointOptions | None = None,
    profile: Path | None = None,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Train the obfuscator `name` on the prepared photos; write `model` and `history`, each at once.

    `prepared` is a folder, or `s3://bucket/prefix` where the training `can_stream`.
    `model` gets obfuscator.json and weights.safetensors. `history` gets timing.json and, for a learned
    method, history.csv, speed.csv and pictures.png (x, x_e, right key, wrong key). `tracked` false leaves
    MLflow out, for callers that tell it themselves. The folder `profile` gets a trace of a few steps,
    trace.json; where it is `history` itself, the trace appears with the rest.

    With `checkpoints` a learned method goes on where the same training - settings, photos, code - broke off,
    in the same MLflow run; a finished one leaves no checkpoint. The time of all its parts counts. Of
    several `ranks` the others `follow`.

    Raises:
        DdmError: missing data, a loss that is not finite, a checkpoint that cannot be written, the same
            training running already, or MLflow cannot be reached.
        SystemExit: SIGTERM came; a checkpoint is written.
    """
    started = time.perf_counter()
    with _opened(checkpoints, params, name, prepared) as kept:
        with atomic_directory(model) as new_model, atomic_directory(history) as new_history:
            if isinstance(params, LEARNED):
                digest = _train(
                    params,
                    name,
                    prepared,
                    new_model,
                    new_history,
                    tracked=tracked,
                    kept=kept,
                    ranks=ranks,
                    profile=new_history if profile == history else profile,
                )
            else:
                folder = _local(prepared)
                write_untrained(new_model, _description(params, folder), folder)
                digest = _digest(new_model)
            seconds = time.perf_counter() - started + (kept.earlier_seconds if kept else 0.0)
            write_json(new_history / TIMING, {"seconds": round(seconds, 1)})
        if kept:
            kept.discard()
    return TrainResult(digest, seconds)


def can_stream(params: ObfuscatorParams) -> bool:
    """Tell whether this training reads a prepared set on S3 as it goes; if not, it needs a folder."""
    return isinstance(params, LEARNED) and params.data != "memory" and params.split == "image"


def follow(params: ObfuscatorParams, *, name: str, prepared: Path | str, ranks: Ranks) -> None:
    """Train along with rank 0, which runs the stage; write nothing.

    Raises:
        DdmError: missing data, or as the training does.
    """
    if not isinstance(params, LEARNED):
        return
    from ddm_core.obfuscators.training_start import fresh_networks, training_goal
    from ddm_core.training import train

    photos = _photos(params, prepared)
    networks = fresh_networks(_description(params, prepared), params, name, photos.sample, ranks)
    train(networks, photos, params, name, lambda _: None, ranks=ranks, goal=training_goal(networks))


def _opened(
    options: CheckpointOptions | None, params: ObfuscatorParams, name: str, prepared: Path | str
) -> AbstractContextManager[Checkpoints | None]:
    if options is None or not isinstance(params, LEARNED):
        return nullcontext()
    from ddm_core.data.stream import summary_of
    from ddm_core.training_checkpoints import open_checkpoints
    from ddm_core.training_key import training_key

    return open_checkpoints(options, training_key(name, params, summary_of(prepared).dataset_digest))


def _train(
    params: LearnedParams,
    name: str,
    prepared: Path | str,
    model: Path,
    history: Path,
    *,
    tracked: bool,
    kept: Checkpoints | None,
    profile: Path | None,
    ranks: Ranks,
) -> str:
    from ddm_core.data.stream import summary_of
    from ddm_core.obfuscators.training_start import fresh_networks, training_goal
    from ddm_core.tracking import ORIGIN_TAG, WEIGHTS_TAG, DatasetReference, track_run, untracked
    from ddm_core.training import train

    photos = _photos(params, prepared)
    summary = summary_of(prepared)
    facts = {"dataset_digest": summary.dataset_digest} | summary.metadata
    learned_from = parse(facts, TrainingData, f"{prepared}: metadata")
    description = dataclasses.replace(_description(params, prepared), trained_on=learned_from)
    dataset = DatasetReference("prepared photos", summary.dataset_digest, prepared)
    origin = summary.metadata.get("origin")
    tags = {ORIGIN_TAG: origin} if origin else None
    training = track_run(
        name=f"train/{name}",
        params=dataclasses.asdict(params),
        tags=tags,
        dataset=dataset,
        resume=kept.note() if kept else None,
    )
    with training if tracked else untracked() as run_of_training:
        if kept and run_of_training.run_id:
            kept.write_note(run_of_training.run_id)
        networks = fresh_networks(description, params, name, photos.sample, ranks)
        observations: list[Observation] = []
        logged = run_of_training.logged_steps("loss")

        def observe(observation: Observation) -> None:
            observations.append(observation)
            if observation.step not in logged:
                _log(run_of_training, observation)

        train(
            networks,
            photos,
            params,
            name,
            observe,
            checkpoints=kept,
            profile=profile,
            ranks=ranks,
            goal=training_goal(networks),
        )
        save_obfuscator(model, description, networks)
        write_text(history / "history.csv", _csv_text(observations, HISTORY_COLUMNS))
        write_text(history / "speed.csv", _csv_text(observations, SPEED_COLUMNS))
        pictures = _pictures(model, name, _examples(params, prepared), params.seed)
        write_bytes(history / PICTURES, pictures)
        run_of_training.log_bytes(PICTURES, pictures)
        digest = _digest(model)
        run_of_training.set_tags({WEIGHTS_TAG: digest})
    return digest


def _photos(params: LearnedParams, prepared: Path | str) -> Photos:
    from ddm_core.data.shards import load_photos
    from ddm_core.training_photos import PhotosInMemory, StreamedPhotos

    if _streams(params, prepared):
        return StreamedPhotos(prepared, params.seed)
    loaded = load_photos(_local(prepared), split="train", by=params.split)
    return PhotosInMemory(loaded.images, loaded.keys)


def _examples(params: LearnedParams, prepared: Path | str) -> Tensor:
    """Return the test photos that the pictures show, uint8 [photos, channels, size, size]."""
    from ddm_core.data.shards import load_photos
    from ddm_core.grids import COLUMNS, example_columns
    from ddm_core.training_photos import StreamedPhotos

    if _streams(params, prepared):
        return StreamedPhotos(prepared, params.seed, split="test").sample(COLUMNS)
    test = load_photos(_local(prepared), split="test", by=params.split)
    return test.images[example_columns(len(test.images))]


def _streams(params: LearnedParams, prepared: Path | str) -> bool:
    from ddm_core.data.stream import summary_of
    from ddm_core.training_photos import MOST_BYTES_IN_MEMORY

    if not can_stream(params):
        return False
    if params.data == "stream" or isinstance(prepared, str):
        return True
    summary = summary_of(prepared)
    return (
        summary.counts.train * summary.params.channels * summary.params.image_size**2 > MOST_BYTES_IN_MEMORY
    )


def _local(prepared: Path | str) -> Path:
    if isinstance(prepared, str):
        raise DdmError(f"{prepared}: this training needs a folder (data: memory, split: identity); copy it")
    return prepared


def _description(params: ObfuscatorParams, prepared: Path | str) -> Description:
    from ddm_core.data.stream import summary_of

    shape = summary_of(prepared).params
    return Description(params, shape.channels, shape.image_size)


def _digest(model: Path) -> str:
    from ddm_core.checkpoints import weights_digest

    return weights_digest(model)


def _log(tracked: Log, observation: Observation) -> None:
    values = dataclasses.asdict(observation)
    step = values.pop("step")
    tracked.log_metrics({metric: value for metric, value in values.items() if value is not None}, step)


def _csv_text(observations: list[Observation], columns: tuple[str, ...]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for observation in observations:
        writer.writerow(dataclasses.asdict(observation))
    return buffer.getvalue()


def _pictures(model: Path, name: str, images: Tensor, seed: int) -> bytes:
    from ddm_core.evaluation import as_float, evaluation_key
    from ddm_core.grids import labelled_grid
    from ddm_core.keys import nonce_stream
    from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator

    obfuscator = load_obfuscator(model, master_key=evaluation_key(seed, "victim"))
    photos = as_float(images)
    nonces = list(nonce_stream(seed, f"{name}/train/pictures", len(photos)))
    hidden = obfuscator.encrypt(photos, nonces)
    rows = {"photo x": photos, "encrypted x_e": hidden}
    if isinstance(obfuscator, DecryptingObfuscator):
        rows["decrypted x_r"] = obfuscator.decrypt(hidden, nonces)
    if isinstance(obfuscator, KeyedObfuscator):
        wrong = obfuscator.with_key(evaluation_key(seed, "wrong"))
        rows["wrong key"] = wrong.decrypt(hidden, nonces)
    return labelled_grid(rows)

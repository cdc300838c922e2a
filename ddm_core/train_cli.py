"""`ddm train`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core import console
from ddm_core.checkpoint_options import (
    DEFAULT_INTERVAL,
    DEFAULT_KEEP,
    DEFAULT_PLACE,
    CheckpointOptions,
    parse_interval,
)
from ddm_core.params import ObfuscatorParams, load_section
from ddm_core.places import Place, local_text
from ddm_core.verb_options import Verbs, add_place, add_stage, named_obfuscator

if TYPE_CHECKING:
    from ddm_core.staging import Staging

TRAINING_SETTINGS = """
Settings of its entry in the train section: precision (fp32, bf16, fp16 with a loss scale), accumulation
(pieces that each batch is worked on in, for less memory), max_gradient_norm and clip_discriminator (gradients
above that norm are scaled down; the discriminator's too or not), compile (torch.compile), data (memory,
stream, or auto: a stream of shards above 2 GB of pixels and from S3). Several processes or GPUs: torchrun.
docs/training.md tells more.
"""


def add_verb(verbs: Verbs) -> None:
    """Add the verb `train` to a command line."""
    train = add_stage(verbs, "train", _train, "train one obfuscator of the params' train section")
    train.epilog = TRAINING_SETTINGS
    train.add_argument("obfuscator", help="its name in the train section")
    add_place(train, "--prepared", "data/prepared", "folder of prepared photos")
    add_place(train, "--models", "models", "folder that gets one folder an obfuscator")
    add_place(train, "--histories", "results/history", "folder that gets one folder an obfuscator")
    train.add_argument(
        "--checkpoints",
        default=DEFAULT_PLACE,
        metavar="PLACE",
        help=f"folder or s3://bucket/prefix that keeps what a broken training goes on from ({DEFAULT_PLACE})",
    )
    train.add_argument(
        "--checkpoint-every",
        default=DEFAULT_INTERVAL,
        metavar="TIME",
        help=f"steps, such as 500, or minutes, such as 5min ({DEFAULT_INTERVAL})",
    )
    train.add_argument(
        "--checkpoint-keep",
        type=int,
        default=DEFAULT_KEEP,
        metavar="K",
        help=f"the last K checkpoints stay, and the best one ({DEFAULT_KEEP})",
    )
    train.add_argument("--no-resume", action="store_true", help="start anew; earlier checkpoints are removed")
    train.add_argument(
        "--profile",
        type=local_text,
        nargs="?",
        const="",
        metavar="PATH",
        help="write a torch profiler trace of five steps to PATH/trace.json (the training's history folder)",
    )


def _train(options: argparse.Namespace) -> None:
    from ddm_core.data_parallel import joined_ranks
    from ddm_core.stages import train
    from ddm_core.staging import staged

    name = options.obfuscator
    every, resume = parse_interval(options.checkpoint_every), not options.no_resume
    with joined_ranks() as ranks, staged() as staging:
        params = named_obfuscator(load_section(options.params, "train"), name)
        if not ranks.leads:
            prepared = _photos_to_train_on(params, options.prepared, staging)
            train.follow(params, name=name, prepared=prepared, ranks=ranks)
            return
        model = staging.write(options.models / name, "model")
        history = staging.write(options.histories / name, "history")
        result = train.run(
            params,
            name=name,
            prepared=_photos_to_train_on(params, options.prepared, staging),
            model=model,
            history=history,
            checkpoints=CheckpointOptions(options.checkpoints, every, options.checkpoint_keep, resume),
            profile=None if options.profile is None else Path(options.profile or history),
            ranks=ranks,
        )
    print(console.trained(result, options.models / name))


def _photos_to_train_on(params: ObfuscatorParams, prepared: Place, staging: Staging) -> Path | str:
    from ddm_core.stages.train import can_stream

    if isinstance(prepared, Path) or not can_stream(params):
        return staging.read(prepared, "prepared")
    return prepared.uri

"""`ddm <stage>` and the user's verbs: parses, calls one function, prints its result. No logic.

Only light modules are imported here; a verb's own modules are imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ddm_core import __version__, console
from ddm_core.benchmark_cli import add_verbs as add_benchmark_verbs
from ddm_core.checkpoint_options import (
    DEFAULT_INTERVAL,
    DEFAULT_KEEP,
    DEFAULT_PLACE,
    CheckpointOptions,
    parse_interval,
)
from ddm_core.data_cli import add_verbs as add_data_verbs
from ddm_core.demo_cli import add_verb as add_demo_verb
from ddm_core.errors import DdmError, did_you_mean
from ddm_core.key_cli import add_verbs as add_key_verbs
from ddm_core.params import ObfuscatorParams, load, load_section
from ddm_core.photos_cli import add_verbs as add_photo_verbs
from ddm_core.places import Place, local_path, local_text, place
from ddm_core.plan_cli import add_verbs as add_plan_verbs
from ddm_core.registry_cli import add_verbs as add_registry_verbs
from ddm_core.results import ATTACKERS, CONTROLS, LAB_ATTACKERS
from ddm_core.sweep_cli import add_verbs as add_sweep_verbs
from pipelines.cli import add_verbs as add_pipeline_verbs

if TYPE_CHECKING:
    from ddm_core.staging import Staging

TRAINING_SETTINGS = """
Settings of its entry in the train section: precision (fp32, bf16, fp16 with a loss scale), accumulation
(pieces that each batch is worked on in, for less memory), max_gradient_norm and clip_discriminator (gradients
above that norm are scaled down; the discriminator's too or not), compile (torch.compile), data (memory,
stream, or auto: a stream of shards above 2 GB of pixels and from S3). Several processes or GPUs: torchrun.
docs/training.md tells more.
"""

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 well, 1 a DdmError (one line on stderr), 2 usage."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except DdmError as error:
        print(f"ddm: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own last flush
        return 1
    except OSError as error:
        where, reason = error.filename or "a file", error.strerror or " ".join(str(error).split())
        print(f"ddm: error: {where}: {reason}; mend it and run again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ddm: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; every option that names a path defaults to its place in dvc.yaml."""
    parser = argparse.ArgumentParser(
        prog="ddm",
        description="Trains a learned face-photo obfuscator, attacks it, and lets only models that survive "
        "reach production. Run the whole pipeline with `dvc repro` (or `make run`).",
    )
    parser.add_argument("--version", action="version", version=f"ddm {__version__}")
    verbs = parser.add_subparsers(title="stages and verbs", metavar="VERB", required=True)
    _add_data_stages(verbs)
    _add_model_stages(verbs)
    _add_result_stages(verbs)
    _add_user_verbs(verbs)
    add_key_verbs(verbs)
    add_photo_verbs(verbs)
    add_demo_verb(verbs)
    add_data_verbs(verbs)
    add_plan_verbs(verbs)
    add_sweep_verbs(verbs)
    add_benchmark_verbs(verbs)
    add_registry_verbs(verbs)
    add_pipeline_verbs(verbs)
    return parser


def _add_data_stages(verbs: Verbs) -> None:
    fetch = _stage(verbs, "fetch", _fetch, "lay the raw photos into the data folder")
    _place(fetch, "--raw", "data/raw", "folder to write")

    prepare = _stage(verbs, "prepare", _prepare, "decode, crop, resize, split and shard the photos")
    _place(prepare, "--raw", "data/raw", "folder of raw photos")
    _place(prepare, "--prepared", "data/prepared", "folder to write")
    prepare.add_argument(
        "--parts",
        type=local_path,
        metavar="PATH",
        help="folder of the parts until the merge (PREPARED.parts)",
    )
    prepare.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (the available cores)"
    )
    share = prepare.add_mutually_exclusive_group()
    share.add_argument("--shard", metavar="I/N", help="only decode share I (from 0) of N, to be merged later")
    share.add_argument("--merge", action="store_true", help="only merge what --shard made")


def _add_model_stages(verbs: Verbs) -> None:
    train = _stage(verbs, "train", _train, "train one obfuscator of the params' train section")
    train.epilog = TRAINING_SETTINGS
    train.add_argument("obfuscator", help="its name in the train section")
    _place(train, "--prepared", "data/prepared", "folder of prepared photos")
    _place(train, "--models", "models", "folder that gets one folder an obfuscator")
    _place(train, "--histories", "results/history", "folder that gets one folder an obfuscator")
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

    recognise = _stage(verbs, "recognise", _recognise, "train the recogniser on clean photos")
    _place(recognise, "--prepared", "data/prepared", "folder of prepared photos")
    _place(recognise, "--recogniser", "results/recogniser", "folder to write")

    attack = _stage(verbs, "attack", _attack, "let one attacker loose on one obfuscator")
    attack.add_argument("obfuscator", help="its name in the train section")
    attack.add_argument("attacker", help=", ".join(ATTACKERS + LAB_ATTACKERS + CONTROLS))
    _measuring_paths(attack)
    _place(attack, "--attacks", "results/attacks", "folder that gets OBFUSCATOR/ATTACKER")

    utility = _stage(verbs, "utility", _utility, "measure what the receiver gets, channel by channel")
    utility.add_argument("obfuscator", help="its name in the train section")
    _measuring_paths(utility)
    _place(utility, "--utility", "results/utility", "folder that gets one folder an obfuscator")


def _add_result_stages(verbs: Verbs) -> None:
    report = _stage(verbs, "report", _report, "add everything up: metrics.json, CSVs, report.html")
    _place(report, "--prepared", "data/prepared", "folder of prepared photos")
    _place(report, "--attacks", "results/attacks", "folder of attack results")
    _place(report, "--utility", "results/utility", "folder of utility results")
    _place(report, "--histories", "results/history", "folder of training histories")
    _place(report, "--recogniser", "results/recogniser", "folder of the clean recogniser")
    _place(report, "--report", "reports", "folder to write")

    register = _stage(verbs, "register", _register, "register the models; only survivors are promoted")
    _place(register, "--metrics", "reports/metrics.json", "the report's metrics")
    _place(register, "--models", "models", "folder with one folder an obfuscator")
    _path(register, "--registration", "results/registration.json", "file to write")


def _add_user_verbs(verbs: Verbs) -> None:
    summary = verbs.add_parser("summary", help="print the result table, the report's path and the champion")
    summary.set_defaults(run=_summary)
    _path(summary, "--report", "reports", "folder of the report")
    _path(summary, "--registration", "results/registration.json", "what the register stage wrote")
    summary.add_argument("--markdown", action="store_true", help="the result table alone, as Markdown")


def _measuring_paths(parser: argparse.ArgumentParser) -> None:
    _place(parser, "--prepared", "data/prepared", "folder of prepared photos")
    _place(parser, "--models", "models", "folder with one folder an obfuscator")
    _place(parser, "--recogniser", "results/recogniser", "folder of the clean recogniser")


def _stage(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=f"stage: {summary}", description=summary)
    parser.set_defaults(run=run)
    _path(parser, "--params", "params.yaml", "the parameter file")
    return parser


def _path(parser: argparse.ArgumentParser, flag: str, default: str, summary: str) -> None:
    parser.add_argument(
        flag, type=local_path, default=Path(default), metavar="PATH", help=f"{summary} ({default})"
    )


def _place(parser: argparse.ArgumentParser, flag: str, default: str, summary: str) -> None:
    parser.add_argument(
        flag, type=place, default=Path(default), metavar="PLACE", help=f"{summary} ({default}), or s3://…"
    )


def _obfuscator(train: dict[str, ObfuscatorParams], name: str) -> ObfuscatorParams:
    if name not in train:
        raise DdmError(f"unknown obfuscator '{name}' in section train{did_you_mean(name, train)}")
    return train[name]


def _fetch(options: argparse.Namespace) -> None:
    from ddm_core.stages import fetch
    from ddm_core.staging import staged

    with staged() as staging:
        raw = staging.write(options.raw, "raw", repeatable=True)
        result = fetch.run(load_section(options.params, "fetch"), raw=raw)
    print(console.fetched(result, options.raw))


def _prepare(options: argparse.Namespace) -> None:
    from ddm_core.data.parts_folder import parse_share
    from ddm_core.stages import prepare
    from ddm_core.staging import staged

    params = load_section(options.params, "prepare")
    shared: dict[str, Any] = {"parts": options.parts, "workers": options.workers}
    with staged() as staging:
        if options.shard is not None:
            share = parse_share(options.shard)
            raw, prepared = staging.read(options.raw, "raw"), staging.local(options.prepared)
            made = prepare.run_share(params, share=share, raw=raw, prepared=prepared, **shared)
            print(f"{made.folder}: share {options.shard} is there, {made.parts} of {made.total} parts")
            return
        prepared = staging.write(options.prepared, "prepared", repeatable=True)
        stage = prepare.merge if options.merge else prepare.run
        result = stage(params, raw=staging.read(options.raw, "raw"), prepared=prepared, **shared)
    print(console.prepared(result, options.prepared))


def _train(options: argparse.Namespace) -> None:
    from ddm_core.data_parallel import joined_ranks
    from ddm_core.stages import train
    from ddm_core.staging import staged

    name = options.obfuscator
    every, resume = parse_interval(options.checkpoint_every), not options.no_resume
    with joined_ranks() as ranks, staged() as staging:
        params = _obfuscator(load_section(options.params, "train"), name)
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


def _recognise(options: argparse.Namespace) -> None:
    from ddm_core.stages import recognise
    from ddm_core.staging import staged

    params = load_section(options.params, "recognise")
    with staged() as staging:
        recogniser = staging.write(options.recogniser, "recogniser")
        prepared = staging.read(options.prepared, "prepared")
        result = recognise.run(params, prepared=prepared, recogniser=recogniser)
    print(console.recognised(result, options.recogniser))


def _attack(options: argparse.Namespace) -> None:
    from ddm_core.stages import attack
    from ddm_core.staging import staged

    params = load(options.params)
    _obfuscator(params.train, options.obfuscator)
    trained = params.train if options.attacker == "transfer" else ()
    with staged() as staging:
        place = options.attacks / options.obfuscator / options.attacker
        result = attack.run(
            params.attack,
            attacker=options.attacker,
            result=staging.write(place, "result"),
            others=staging.read_those_there((options.models / name for name in trained), "model"),
            **_measured(options, staging),
        )
    print(console.attacked(result))


def _utility(options: argparse.Namespace) -> None:
    from ddm_core.stages import utility
    from ddm_core.staging import staged

    params = load(options.params)
    _obfuscator(params.train, options.obfuscator)
    with staged() as staging:
        place = options.utility / options.obfuscator
        folder = staging.write(place, "result")
        result = utility.run(params.utility, result=folder, **_measured(options, staging))
    print(console.useful(result))


def _measured(options: argparse.Namespace, staging: Staging) -> dict[str, Path]:
    return {
        "prepared": staging.read(options.prepared, "prepared"),
        "model": staging.read(options.models / options.obfuscator, "model"),
        "recogniser": staging.read(options.recogniser, "recogniser"),
    }


def _report(options: argparse.Namespace) -> None:
    from ddm_core.stages import report
    from ddm_core.staging import staged

    with staged() as staging:
        report.run(
            load(options.params),
            report=staging.write(options.report, "report"),
            prepared=staging.read(options.prepared, "prepared"),
            attacks=staging.read(options.attacks),
            utility=staging.read(options.utility),
            histories=staging.read(options.histories),
            recogniser=staging.read(options.recogniser, "recogniser"),
        )
    print(f"{options.report / 'metrics.json'} and {options.report / 'report.html'} are written")


def _register(options: argparse.Namespace) -> None:
    from ddm_core.stages import register
    from ddm_core.staging import staged

    with staged() as staging:
        result = register.run(
            load(options.params).register,
            metrics=staging.read(options.metrics),
            models=staging.read(options.models),
            registration=options.registration,
        )
    print(console.registered(result))


def _summary(options: argparse.Namespace) -> None:
    from ddm_core.files import read_json
    from ddm_core.reporting.table import result_table, result_table_markdown
    from ddm_core.stages.register import summarise

    metrics = read_json(options.report / "metrics.json")
    if options.markdown:
        print(result_table_markdown(metrics))
        return
    print(result_table(metrics))
    print(f"\nReport: {(options.report / 'report.html').resolve()}")
    print(summarise(options.registration))


if __name__ == "__main__":
    sys.exit(main())

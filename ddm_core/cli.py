"""`ddm <stage>` and the user's verbs: parses, calls one function, prints its result. No logic.

Only light modules are imported here; a verb's own modules are imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core import __version__, console
from ddm_core.benchmark_cli import add_verbs as add_benchmark_verbs
from ddm_core.data_cli import add_verbs as add_data_verbs
from ddm_core.demo_cli import add_verb as add_demo_verb
from ddm_core.errors import DdmError
from ddm_core.key_cli import add_verbs as add_key_verbs
from ddm_core.params import load, load_section
from ddm_core.photos_cli import add_verbs as add_photo_verbs
from ddm_core.places import local_path
from ddm_core.plan_cli import add_verbs as add_plan_verbs
from ddm_core.registry_cli import add_verbs as add_registry_verbs
from ddm_core.results import ATTACKERS, CONTROLS, LAB_ATTACKERS
from ddm_core.sweep_cli import add_verbs as add_sweep_verbs
from ddm_core.train_cli import add_verb as add_train_verb
from ddm_core.verb_options import Verbs, add_path, add_place, add_stage, named_obfuscator
from pipelines.cli import add_verbs as add_pipeline_verbs

if TYPE_CHECKING:
    from ddm_core.staging import Staging


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
    fetch = add_stage(verbs, "fetch", _fetch, "lay the raw photos into the data folder")
    add_place(fetch, "--raw", "data/raw", "folder to write")

    prepare = add_stage(verbs, "prepare", _prepare, "decode, crop, resize, split and shard the photos")
    add_place(prepare, "--raw", "data/raw", "folder of raw photos")
    add_place(prepare, "--prepared", "data/prepared", "folder to write")
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
    add_train_verb(verbs)

    recognise = add_stage(verbs, "recognise", _recognise, "train the recogniser on clean photos")
    add_place(recognise, "--prepared", "data/prepared", "folder of prepared photos")
    add_place(recognise, "--recogniser", "results/recogniser", "folder to write")

    attack = add_stage(verbs, "attack", _attack, "let one attacker loose on one obfuscator")
    attack.add_argument("obfuscator", help="its name in the train section")
    attack.add_argument("attacker", help=", ".join(ATTACKERS + LAB_ATTACKERS + CONTROLS))
    _measuring_paths(attack)
    add_place(attack, "--attacks", "results/attacks", "folder that gets OBFUSCATOR/ATTACKER")

    utility = add_stage(verbs, "utility", _utility, "measure what the receiver gets, channel by channel")
    utility.add_argument("obfuscator", help="its name in the train section")
    _measuring_paths(utility)
    add_place(utility, "--utility", "results/utility", "folder that gets one folder an obfuscator")


def _add_result_stages(verbs: Verbs) -> None:
    report = add_stage(verbs, "report", _report, "add everything up: metrics.json, CSVs, report.html")
    add_place(report, "--prepared", "data/prepared", "folder of prepared photos")
    add_place(report, "--attacks", "results/attacks", "folder of attack results")
    add_place(report, "--utility", "results/utility", "folder of utility results")
    add_place(report, "--histories", "results/history", "folder of training histories")
    add_place(report, "--recogniser", "results/recogniser", "folder of the clean recogniser")
    add_place(report, "--report", "reports", "folder to write")

    register = add_stage(verbs, "register", _register, "register the models; only survivors are promoted")
    add_place(register, "--metrics", "reports/metrics.json", "the report's metrics")
    add_place(register, "--models", "models", "folder with one folder an obfuscator")
    add_path(register, "--registration", "results/registration.json", "file to write")


def _add_user_verbs(verbs: Verbs) -> None:
    what = "print the result table, the report's path and the champion"
    summary = verbs.add_parser("summary", help=what, description=what)
    summary.set_defaults(run=_summary)
    add_path(summary, "--report", "reports", "folder of the report")
    add_path(summary, "--registration", "results/registration.json", "what the register stage wrote")
    summary.add_argument("--markdown", action="store_true", help="the result table alone, as Markdown")


def _measuring_paths(parser: argparse.ArgumentParser) -> None:
    add_place(parser, "--prepared", "data/prepared", "folder of prepared photos")
    add_place(parser, "--models", "models", "folder with one folder an obfuscator")
    add_place(parser, "--recogniser", "results/recogniser", "folder of the clean recogniser")


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
    named_obfuscator(params.train, options.obfuscator)
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
    named_obfuscator(params.train, options.obfuscator)
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

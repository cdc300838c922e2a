"""`ddm benchmark`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ddm_core.errors import DdmError
from ddm_core.places import local_path
from ddm_core.verb_options import Verbs, add_path

RESULTS = Path("benchmark/results")
STAGES = ("recognise", "train", "attack", "utility", "table")


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `benchmark` to a command line."""
    summary = "judge obfuscators, ours and anyone's: every attacker, every channel, one table"
    parser = verbs.add_parser("benchmark", help=summary, description=f"{summary}. Run it again to go on.")
    parser.set_defaults(run=_benchmark)
    _add_grid(parser)
    _add_ways(parser)


def _add_grid(parser: argparse.ArgumentParser) -> None:
    grid = parser.add_argument_group("the grid (all of the parameter file)")
    grid.add_argument(
        "--obfuscators", type=_names, metavar="A,B", help="names of the parameter file's train section"
    )
    grid.add_argument(
        "--obfuscator",
        action="append",
        default=[],
        metavar="WHICH",
        dest="others",
        help="one more: a name, module:function, or an MLflow model such as models:/name/version; repeatable",
    )
    grid.add_argument("--attackers", type=_names, metavar="X,Y", help="names of attackers")
    seeds = grid.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=_first_seeds, metavar="N", help="everything under seeds 0 to N-1")
    seeds.add_argument(
        "--seed-list", type=_seeds, metavar="S,T", dest="seeds", help="everything under these seeds"
    )
    grid.add_argument("--quick", action="store_true", help="the file's section quick: less of everything")
    grid.add_argument(
        "--stage",
        action="append",
        choices=STAGES,
        dest="stages",
        help="only this stage's cells, of what is there; `table` adds up; repeatable",
    )
    grid.add_argument(
        "--partial",
        action="store_true",
        help="the table may do without cells that are not there, such as some under further seeds",
    )


def _add_ways(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="processes of one thread side by side (the available cores)"
    )
    add_path(parser, "--params", "benchmark/params.yaml", "the parameter file")
    add_path(parser, "--prepared", "data/prepared", "folder of prepared photos")
    parser.add_argument(
        "-o",
        "--output",
        type=local_path,
        metavar="PATH",
        help=f"folder of results ({RESULTS}; with --quick {RESULTS}-quick)",
    )
    parser.add_argument("--no-mlflow", action="store_true", help="tell MLflow nothing")
    parser.add_argument(
        "--document",
        type=local_path,
        metavar="PATH",
        help="put the table between the marks of this Markdown file too, such as docs/results.md, and"
        " results.json beside it",
    )
    parser.add_argument(
        "--page", action=argparse.BooleanOptionalAction, default=True, help="write the results page (yes)"
    )


def _benchmark(options: argparse.Namespace) -> None:
    from ddm_core.benchmark.run import TABLE, Order, run
    from ddm_core.benchmark.settings import Choice, load
    from ddm_core.benchmark.terminal import outcome_lines, result_table
    from ddm_core.data.workers import available_cores

    choice = Choice(
        obfuscators=options.obfuscators,
        others=tuple(options.others),
        attackers=options.attackers,
        seeds=options.seeds,
        quick=options.quick,
    )
    results = options.output or RESULTS.with_name("results-quick" if options.quick else "results")
    order = Order(
        prepared=options.prepared,
        results=results,
        jobs=options.jobs or available_cores(),
        stages=tuple(options.stages or STAGES),
        partial=options.partial,
        mlflow=not options.no_mlflow,
        page=options.page,
        document=options.document,
        command=" ".join(["ddm", *sys.argv[1:]]),
    )
    outcome = run(load(options.params, choice), order)
    if TABLE in order.stages:
        print(result_table(results))
    for line in outcome_lines(outcome, order):
        print(line)
    for line in outcome.failed:
        print(f"failed: {line}", file=sys.stderr)
    if outcome.failed:
        raise DdmError(f"{len(outcome.failed)} cells failed; mend what they say and run the same again")
    if outcome.sane is False:
        raise DdmError(
            "attackers failed their sanity gate or their own level; the notes of the table say which"
        )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names such as mosaic8,blur31")
    return names


def _seeds(text: str) -> tuple[int, ...]:
    if re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers from 0, such as 0,7,11")
    return tuple(dict.fromkeys(map(int, text.split(","))))


def _first_seeds(text: str) -> tuple[int, ...]:
    return tuple(range(_count(text)))


def _count(text: str) -> int:
    if re.fullmatch(r"[1-9][0-9]{0,2}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999")
    return int(text)

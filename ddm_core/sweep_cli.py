"""`ddm sweep`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ddm_core.errors import DdmError
from ddm_core.places import local_path
from ddm_core.verb_options import Verbs, add_path

SWEEPS = Path("results/sweeps")


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `sweep` to a command line."""
    summary = "search for better settings of an obfuscator: privacy first, then PSNR after the channels"
    more = "Run it again to go on; docs/sweep.md tells more."
    parser = verbs.add_parser("sweep", help=summary, description=f"{summary}. {more}")
    parser.set_defaults(run=_sweep)
    parser.add_argument("obfuscator", help="its name in the params' train section")
    parser.add_argument(
        "--space",
        type=local_path,
        required=True,
        metavar="PATH",
        help="what may vary, such as sweeps/keyed_ddm.yaml",
    )
    parser.add_argument("--trials", type=_count, metavar="N", help="trials in all (the space file's)")
    parser.add_argument("--name", type=_name, help="of the sweep (the obfuscator's)")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help=f"database that keeps the trials, such as sqlite:///sweep.db ({SWEEPS}/NAME/study.db)",
    )
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="trials side by side (1)")
    add_path(parser, "--params", "params.yaml", "the parameter file")
    add_path(parser, "--prepared", "data/prepared", "folder of prepared photos")
    add_path(parser, "--recogniser", "results/recogniser", "folder of the clean recogniser")
    add_path(parser, "--sweeps", str(SWEEPS), "folder that gets one folder a sweep")
    parser.add_argument("--no-mlflow", action="store_true", help="tell MLflow nothing")


def _sweep(options: argparse.Namespace) -> None:
    from ddm_core.params import load
    from ddm_core.sweep.space import load_space

    params = load(options.params)
    space = load_space(options.space, options.obfuscator, params)
    # The rest of the package, and Optuna and torch with it, when what was typed is known to be right.
    from ddm_core.sweep.order import Order
    from ddm_core.sweep.run import BEST, PICTURE, TABLE, run

    name = options.name or options.obfuscator
    results = options.sweeps / name
    outcome = run(
        Order(
            name=name,
            obfuscator=options.obfuscator,
            params=params,
            space=space,
            trials=options.trials or space.trials,
            prepared=options.prepared,
            recogniser=options.recogniser,
            results=results,
            storage=options.storage,
            jobs=options.jobs,
            mlflow=not options.no_mlflow,
            command=_command(),
        )
    )
    print(outcome.table)
    print(f"\n{results / TABLE} and {results / PICTURE} show all trials")
    if outcome.fragment is None:
        raise DdmError("no trial kept every attacker within the gate's limits; nothing is recommended")
    print(f"The best settings, {results / BEST}, for {options.params}:\n\n{outcome.fragment}", end="")


def _command() -> str:
    from ddm_core.tracking_address import mask

    return mask(" ".join(["ddm", *sys.argv[1:]]))


def _name(text: str) -> str:
    if re.fullmatch(r"\w[\w.-]*", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no name; a name has letters, digits, '_', '-' and '.'")
    return text


def _count(text: str) -> int:
    if re.fullmatch(r"[1-9][0-9]{0,5}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999")
    return int(text)

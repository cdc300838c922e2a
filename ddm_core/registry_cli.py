"""`ddm gate` and `ddm registry VERB`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from ddm_core.errors import DdmError
from ddm_core.params import load

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `gate` to a command line."""
    _add_gate(verbs)


def _add_gate(verbs: Verbs) -> None:
    summary = "judge measured figures by the gate's policy; exit status 0 passes, 1 fails"
    gate = verbs.add_parser("gate", help=summary, description=summary)
    gate.set_defaults(run=_gate)
    _add_params(gate)
    gate.add_argument(
        "--metrics",
        type=Path,
        default="reports/metrics.json",
        metavar="PATH",
        help="the report's metrics (reports/metrics.json)",
    )
    gate.add_argument("--obfuscator", metavar="NAME", help="which to judge (the report's headline)")
    gate.add_argument(
        "--explain", action="store_true", help="print limit, figure, interval, verdict of each check"
    )


def _add_params(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--params", type=Path, default="params.yaml", metavar="PATH", help="the parameter file (params.yaml)"
    )


def _gate(options: argparse.Namespace) -> None:
    from ddm_core.gate import judge
    from ddm_core.gate_table import gate_table, read_evidence

    params = load(options.params)
    name = options.obfuscator or params.report.headline
    verdict = judge(read_evidence(options.metrics, name), params.register.gate)
    if options.explain:
        print(gate_table(verdict), flush=True)
    if not verdict.passed:
        raise DdmError(f"{name} fails the gate: {verdict.failures}")
    print(f"{name} passes the gate: {len(verdict.checks)} of {len(verdict.checks)} checks")

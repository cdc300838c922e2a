"""`ddm gate` and `ddm registry VERB`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ddm_core.errors import DdmError
from ddm_core.params import GateParams, Params, load
from ddm_core.places import local_path
from ddm_core.tracking_address import explained
from ddm_core.verb_options import Verbs, add_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARAMS_FILES = (Path("params.yaml"), Path("photo/params.yaml"))
"""Where policies are looked for: the main pipeline's, and the photo model's where it is there."""

T = TypeVar("T")


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs `gate` and `registry` to a command line."""
    _add_gate(verbs)
    summary = "list, compare, promote, roll back and archive model versions"
    parser = verbs.add_parser("registry", help=summary, description=summary)
    inner = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_readers(inner)
    _add_movers(inner)


def _add_gate(verbs: Verbs) -> None:
    summary = "judge measured figures by the gate's policy; exit status 0 passes, 1 fails"
    gate = verbs.add_parser("gate", help=summary, description=summary)
    gate.set_defaults(run=_gate)
    add_path(gate, "--params", "params.yaml", "the parameter file")
    add_path(gate, "--metrics", "reports/metrics.json", "the report's metrics")
    gate.add_argument("--obfuscator", metavar="NAME", help="which to judge (the report's headline)")
    gate.add_argument(
        "--explain", action="store_true", help="print limit, figure, interval, verdict of each check"
    )


def _add_readers(verbs: Verbs) -> None:
    listing = _verb(verbs, "list", _list, "every version of every model: aliases, gate, figures, remarks")
    listing.add_argument("--archived", action="store_true", help="archived versions too")
    show = _verb(verbs, "show", _show, "one version: origin, the gate line by line, its moves")
    show.add_argument("version", help="its number, or an alias such as champion")
    comparison = _verb(verbs, "compare", _compare, "two versions' figures; whether B would replace A")
    comparison.add_argument("first", metavar="A", help="number or alias")
    comparison.add_argument("second", metavar="B", help="number or alias")
    history = _verb(verbs, "history", _history, "every move: who, when, from, to, why")
    history.add_argument("--json", action="store_true", help="with the figures and digests of the evidence")


def _add_movers(verbs: Verbs) -> None:
    promotion = _verb(verbs, "promote", _promote, "let an alias point to a version that passes the gate")
    promotion.add_argument("version", help="its number, or an alias such as challenger")
    _add_alias(promotion)
    _add_reason(promotion, "needed where the champion's rule says no, and with --force")
    promotion.add_argument(
        "--force", action="store_true", help="past the gate; the version is marked for ever"
    )
    rollback = _verb(verbs, "rollback", _rollback, "let an alias point to the version that held it before")
    rollback.add_argument("--to", default="", metavar="VERSION", help="an earlier holder (the last one)")
    _add_alias(rollback)
    _add_reason(rollback, "kept in the history")
    archive = _verb(verbs, "archive", _archive, "put a version away; its files stay")
    archive.add_argument("version", help="its number")
    archive.add_argument("--undo", action="store_true", help="bring it back")
    _add_reason(archive, "kept in the history")


def _verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--params",
        type=local_path,
        metavar="PATH",
        help="the parameter file whose policy judges (of params.yaml and photo/params.yaml the one that names"
        " the model)",
    )
    parser.add_argument("--model", metavar="NAME", help="registered model (the report's headline)")
    return parser


def _add_alias(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--alias", default="champion", metavar="ALIAS", help="which alias (champion)")


def _add_reason(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help=text)


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


def _list(options: argparse.Namespace) -> None:
    from ddm_core.serving.overview import list_versions

    if options.model:
        policies = {options.model: _policy(options)[1]}
    else:
        policies = {
            name: params.register.gate
            for _, params in _params_files(options)
            for name in params.register.models.values()
        }
    client = _connect()
    with explained():
        found = [
            list_versions(client, name, gate, archived=options.archived) for name, gate in policies.items()
        ]
    print("\n\n".join(found))


def _show(options: argparse.Namespace) -> None:
    from ddm_core.serving.overview import show_version

    print(_with_model(options, show_version, options.version))


def _compare(options: argparse.Namespace) -> None:
    from ddm_core.serving.overview import compare_versions

    print(_with_model(options, compare_versions, options.first, options.second))


def _history(options: argparse.Namespace) -> None:
    from ddm_core.serving.overview import history, history_records

    name = options.model or _headline(_params_files(options)[0][1])
    client = _connect()
    with explained():
        if options.json:
            print(json.dumps(history_records(client, name), indent=2, ensure_ascii=False))
        else:
            print(history(client, name))


def _promote(options: argparse.Namespace) -> None:
    from ddm_core.serving.moves import promote

    words = {"alias": options.alias, "reason": options.reason, "force": options.force}
    outcome = _with_model(options, promote, options.version, **words)
    if outcome.refused:
        raise DdmError(f'{outcome.text}; --reason "…" promotes it all the same')
    print(outcome.text)


def _rollback(options: argparse.Namespace) -> None:
    from ddm_core.serving.moves import rollback

    words = {"alias": options.alias, "reason": options.reason, "to": options.to}
    print(_with_model(options, rollback, **words).text)


def _archive(options: argparse.Namespace) -> None:
    from ddm_core.serving.moves import archive

    print(_with_model(options, archive, options.version, reason=options.reason, undo=options.undo).text)


def _with_model(options: argparse.Namespace, function: Callable[..., T], *which: str, **words: Any) -> T:  # noqa: ANN401
    name, gate = _policy(options)
    client = _connect()
    with explained():
        return function(client, name, *which, gate=gate, **words)


def _policy(options: argparse.Namespace) -> tuple[str, GateParams]:
    """Return the model that is meant, and the gate of the parameter file that registers it.

    Another file's gate has other channels and limits, and must not judge it.
    """
    files = _params_files(options)
    name = options.model or _headline(files[0][1])
    for _, params in files:
        if name in params.register.models.values():
            return name, params.register.gate
    read = " and ".join(str(path) for path, _ in files)
    raise DdmError(
        f"no policy for the model '{name}': it is not under register: models of {read}; pass --params FILE,"
        f" the file it was registered with ({PARAMS_FILES[1]} for photo)"
    )


def _headline(params: Params) -> str:
    name = params.register.models.get(params.report.headline)
    if name is None:
        raise DdmError(f"the headline {params.report.headline} is not registered; pass --model NAME")
    return name


def _params_files(options: argparse.Namespace) -> list[tuple[Path, Params]]:
    if options.params:
        return [(options.params, load(options.params))]
    main, photo = PARAMS_FILES
    return [(path, load(path)) for path in (main, *([photo] if photo.exists() else []))]


def _connect() -> MlflowClient:
    from ddm_core.tracking import connect

    return connect()

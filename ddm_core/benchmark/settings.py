"""Reads benchmark/params.yaml: the sections of the stages, the grid's attackers and seeds, and `quick`.

The sections `train`, `recognise`, `attack` and `utility` are those of params.yaml. `attackers` and `seeds`
span the grid. `quick` is what `ddm benchmark --quick` changes: fewer `obfuscators`, `attackers` and `seeds`,
and for each section the settings that differ.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ddm_core.attacks.sanity import CONTROL_OBFUSCATORS
from ddm_core.errors import DdmError, did_you_mean
from ddm_core.obfuscator_params import ExternalParams, ObfuscatorParams, parse_obfuscator
from ddm_core.params import AttackParams, RecogniseParams, UtilityParams, read_yaml
from ddm_core.ranges import require
from ddm_core.results import ATTACKERS, CONTROLS, LAB_ATTACKERS
from ddm_core.strict import parse

Section = TypeVar("Section")

KNOWN_ATTACKERS = ATTACKERS + LAB_ATTACKERS + CONTROLS


@dataclass(frozen=True)
class BenchmarkParams:
    """The grid: each of `obfuscators` meets each of `attackers`, once a seed; seeds are whole numbers from 0.

    `obfuscators` are names of `train`, empty for all of them. `transfer_from` are those whose settings the
    transfer attacker may learn from, empty for all of `obfuscators`; what the command line leaves out stays
    in it, so that a cell's result does not depend on which other cells were asked for.
    """

    train: dict[str, ObfuscatorParams]
    recognise: RecogniseParams
    attack: AttackParams
    utility: UtilityParams
    attackers: tuple[str, ...]
    seeds: tuple[int, ...]
    obfuscators: tuple[str, ...] = ()
    transfer_from: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(len(self.train) > 0, "train is empty; name at least one obfuscator")
        for field in ("obfuscators", "transfer_from"):
            for name in getattr(self, field):
                known = name in self.train
                require(known, f"{field}: '{name}' is no obfuscator of train{did_you_mean(name, self.train)}")
        for name in self.train:  # names become folder names
            fits = re.fullmatch(r"[A-Za-z0-9_]+", name) is not None
            require(fits, f"train: '{name}' is no name; a name has letters, digits and '_' only")
        require(len(self.attackers) > 0, "attackers is empty; name at least one, for example retrained")
        for name in self.attackers:
            known = name in KNOWN_ATTACKERS
            require(known, f"attackers: unknown attacker '{name}'{did_you_mean(name, KNOWN_ATTACKERS)}")
        require(len(set(self.attackers)) == len(self.attackers), "attackers names one twice; once is enough")
        require(len(self.seeds) > 0, "seeds is empty; give at least one, for example 0")
        require(min(self.seeds) >= 0, "seeds has a negative number; seeds count from 0")
        require(len(set(self.seeds)) == len(self.seeds), "seeds names one twice; once is enough")


@dataclass(frozen=True)
class Choice:
    """What the command line chose of the grid; `None` is all that the parameter file has.

    `obfuscators` are names of the train section; `others` are names too, or addresses of other people's
    obfuscators: `module:function` or an MLflow model such as `models:/name/version`.
    """

    obfuscators: tuple[str, ...] | None = None
    others: tuple[str, ...] = ()
    attackers: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    quick: bool = False


def load(path: Path, choice: Choice) -> BenchmarkParams:
    """Read the parameter file and return the grid that `choice` makes of it.

    Raises:
        DdmError: missing file, bad YAML, unknown or missing key, value out of range, unknown name; one line.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise DdmError(f"{path}: expected a mapping with the sections train, recognise, attack and utility")
    quick = content.pop("quick", None)
    if choice.quick:
        content = _made_quick(content, quick, str(path))
    params = parse(content, BenchmarkParams, str(path), {ObfuscatorParams: parse_obfuscator})
    usual = params.obfuscators or tuple(params.train)
    complete = dataclasses.replace(params, obfuscators=usual, transfer_from=params.transfer_from or usual)
    return _with_another_blur(_chosen(_with_controls(complete, path), choice, path))


def with_seed(section: Section, seed: int) -> Section:
    """Return a section's settings with their seed replaced; settings without a seed as they are."""
    names = {field.name for field in dataclasses.fields(section)}  # type: ignore[arg-type]
    return dataclasses.replace(section, seed=seed) if "seed" in names else section  # type: ignore[type-var]


def external_name(uri: str) -> str:
    """Return the name of somebody else's obfuscator: its address in letters, digits and `_`."""
    return re.sub(r"\W+", "_", uri, flags=re.ASCII).strip("_")


def _made_quick(content: dict[str, Any], quick: Any, where: str) -> dict[str, Any]:  # noqa: ANN401 - YAML decides
    if not isinstance(quick, dict):
        raise DdmError(f"{where}: has no section quick; add one or leave --quick out")
    fields = {field.name for field in dataclasses.fields(BenchmarkParams)}
    merged = dict(content)
    for name, change in quick.items():
        if name not in fields:
            raise DdmError(f"{where}: quick: unknown key '{name}'{did_you_mean(str(name), fields)}")
        if name == "train":
            merged[name] = _merged(content.get(name), change, f"{where}: quick: {name}", _merged)
        elif isinstance(change, dict):
            merged[name] = _merged(content.get(name), change, f"{where}: quick: {name}")
        else:
            merged[name] = change
    return merged


def _merged(
    settings: Any,  # noqa: ANN401 - YAML decides
    change: Any,  # noqa: ANN401
    where: str,
    merge: Callable[[Any, Any, str], Any] = lambda before, after, where: after,
) -> dict[str, Any]:
    if not isinstance(settings, dict) or not isinstance(change, dict):
        raise DdmError(f"{where}: changes a section that is not there; add it or take this out")
    return settings | {
        name: merge(settings.get(name), new, f"{where}: {name}") for name, new in change.items()
    }


def _chosen(params: BenchmarkParams, choice: Choice, path: Path) -> BenchmarkParams:
    external = {external_name(other): _external(other) for other in choice.others if ":" in other}
    train = params.train | external
    obfuscators = params.obfuscators
    if choice.obfuscators is not None or choice.others:
        others = (external_name(other) if ":" in other else other for other in choice.others)
        obfuscators = tuple(dict.fromkeys((*(choice.obfuscators or ()), *others)))
    for name in obfuscators:
        if name not in train:
            raise DdmError(f"unknown obfuscator '{name}' in {path}{did_you_mean(name, train)}")
    return dataclasses.replace(
        params,
        train=train,
        obfuscators=obfuscators,
        attackers=_chosen_attackers(choice.attackers, params.attackers),
        seeds=choice.seeds if choice.seeds is not None else params.seeds,
    )


def _with_controls(params: BenchmarkParams, path: Path) -> BenchmarkParams:
    """Add the settings of the sanity gate's controls to `train`; `obfuscators` stay as they are."""
    for name, settings in CONTROL_OBFUSCATORS.items():
        if params.train.get(name, settings) != settings:
            raise DdmError(
                f"{path}: train: {name} is a control of the sanity gate and must be {settings};"
                " give yours another name"
            )
    return dataclasses.replace(params, train=params.train | CONTROL_OBFUSCATORS)


def _with_another_blur(params: BenchmarkParams) -> BenchmarkParams:
    """Give the control of the transfer attacker, blur31, another blur to learn from where there is none."""
    blurs = {name for name in params.transfer_from if params.train[name].method == "blur"}
    if "transfer" not in params.attackers or not blurs <= {"blur31"}:
        return params
    return dataclasses.replace(params, transfer_from=(*params.transfer_from, "blur15"))


def _external(uri: str) -> ExternalParams:
    try:
        return ExternalParams(method="external", uri=uri)
    except ValueError as error:
        raise DdmError(f"--obfuscator {uri}: {error}") from None


def _chosen_attackers(chosen: Sequence[str] | None, usual: tuple[str, ...]) -> tuple[str, ...]:
    if chosen is None:
        return usual
    for name in chosen:
        if name not in KNOWN_ATTACKERS:
            raise DdmError(f"unknown attacker '{name}'{did_you_mean(name, KNOWN_ATTACKERS)}")
    return tuple(dict.fromkeys(chosen))

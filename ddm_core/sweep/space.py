"""What a sweep may vary: the reader of a space file, and its check against the obfuscator's own settings."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.learned_params import LEARNED, LearnedParams
from ddm_core.params import Params, read_yaml
from ddm_core.ranges import require, require_positive
from ddm_core.strict import parse

Scalar = int | float | bool | str

NOT_CHOSEN = ("method", "seed", "threads", "split")
"""Settings that are no merit of a model: what it is, and under which conditions it is made."""
CHANNEL_SETTINGS = (
    *("jpeg_probability", "jpeg_quality_min", "jpeg_quality_max", "resize_probability", "resize_scale_min"),
    *("resize_min_share", "noise_deviation", "site_share"),
)
"""Settings of the channel that training goes through: with them the PSNR seen in training changes meaning."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `log`: drawn evenly by their logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        require(self.low < self.high, f"low is {self.low:g} and high {self.high:g}; low must be below high")
        require(not self.log or self.low > 0, f"low is {self.low:g}; with log: true it must be above 0")

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        """Return the values whose validity stands for all."""
        return self.low, self.high


@dataclass(frozen=True)
class Choices:
    """One of `choices`, at least two."""

    choices: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        require(len(self.choices) > 1, "choices has fewer than two values; nothing is left to choose")
        require(len(set(self.choices)) == len(self.choices), "choices names a value twice; once is enough")

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        """Return the values whose validity stands for all."""
        return self.choices


Setting = Range | Choices


@dataclass(frozen=True)
class Pruning:
    """When a training is given up: its PSNR lies below the median of the private trials at the same step.

    Not before `startup_trials` private trials are complete, nor before `warmup_steps` optimiser steps.
    """

    startup_trials: int = 4
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "startup_trials")
        require(self.warmup_steps >= 0, f"warmup_steps is {self.warmup_steps}; it must not be negative")


@dataclass(frozen=True)
class Space:
    """A space file: which `settings` vary and how, over how many `trials`, drawn from `seed`.

    The first `startup_trials` are drawn at random, the others from what is known by then.
    `encryptions_per_photo` replaces that of the sections attack and utility; `pruning` null runs every
    training to its end.
    """

    settings: dict[str, Setting]
    trials: int
    seed: int
    startup_trials: int = 6
    encryptions_per_photo: int = 4
    pruning: Pruning | None = None

    def __post_init__(self) -> None:
        require(len(self.settings) > 0, "settings is empty; name at least one, for example learning_rate")
        require(self.seed >= 0, f"seed is {self.seed}; seeds count from 0")
        require_positive(self, "trials", "startup_trials", "encryptions_per_photo")
        moved = [name for name in self.settings if name in CHANNEL_SETTINGS]
        require(
            self.pruning is None or not moved,
            f"pruning compares PSNR in training, which {' and '.join(moved)} changes the meaning of;"
            " set pruning: null",
        )


class InvalidSettingsError(Exception):
    """Values that are each allowed, but not together."""


def load_space(path: Path, obfuscator: str, params: Params) -> Space:
    """Read a space file and check it against the entry `obfuscator` of params' section train.

    Raises:
        DdmError: missing file, bad YAML, an unknown setting (with the nearest known one), a value that the
            setting does not allow, an obfuscator that learns nothing; one line.
    """
    if obfuscator not in params.train:
        raise DdmError(
            f"unknown obfuscator '{obfuscator}' in section train{did_you_mean(obfuscator, params.train)}"
        )
    base = params.train[obfuscator]
    if not isinstance(base, LEARNED):
        raise DdmError(f"sweep: '{obfuscator}' has nothing to learn; name an obfuscator that is trained")
    content = read_yaml(path)
    settings = content.get("settings") if isinstance(content, dict) else None
    for name in settings if isinstance(settings, dict) else ():
        _require_known(str(name), obfuscator, base, f"{path}: settings")
    space = parse(content, Space, str(path), {Setting: _parse_setting})
    for name, setting in space.settings.items():
        _require_fit(name, setting, base, f"{path}: settings: {name}")
    return space


def with_settings(base: LearnedParams, values: Mapping[str, Any]) -> LearnedParams:
    """Return the settings with some values replaced.

    Raises:
        InvalidSettingsError: the values do not go together; why.
    """
    try:
        return parse(dataclasses.asdict(base) | dict(values), type(base), "settings")
    except DdmError as error:
        raise InvalidSettingsError(str(error)) from None


def is_whole(base: LearnedParams, name: str) -> bool:
    """Tell whether a setting takes whole numbers only."""
    return typing.get_type_hints(type(base))[name] is int


def _parse_setting(content: Any, where: str) -> Setting:  # noqa: ANN401 - YAML decides
    if not isinstance(content, dict) or "choices" not in content:
        return parse(content, Range, where)
    for key in content:
        if key != "choices":
            raise DdmError(f"{where}: '{key}' has no meaning beside choices; take it out")
    choices = content["choices"]
    if not isinstance(choices, list) or not all(isinstance(one, Scalar) for one in choices):
        raise DdmError(f"{where}: choices: expected a list of numbers or words, got {choices!r}")
    try:
        return Choices(tuple(choices))
    except ValueError as error:
        raise DdmError(f"{where}: {error}") from None


def _require_known(name: str, obfuscator: str, base: LearnedParams, where: str) -> None:
    fields = {field.name for field in dataclasses.fields(base)}
    if name in NOT_CHOSEN:
        raise DdmError(f"{where}: '{name}' is nothing to choose by; set it in params.yaml")
    if name not in fields:
        near = did_you_mean(name, fields - set(NOT_CHOSEN))
        raise DdmError(f"{where}: '{name}' is no setting of {obfuscator}{near}")


def _require_fit(name: str, setting: Setting, base: LearnedParams, where: str) -> None:
    """Let the method's own dataclass judge every extreme, the other settings as they are in params.yaml."""
    kind = typing.get_type_hints(type(base))[name]
    if isinstance(setting, Range) and kind not in (int, float):
        raise DdmError(f"{where}: takes no range; give choices: [A, B]")
    for value in setting.extremes:
        parse(dataclasses.asdict(base) | {name: value}, type(base), where)

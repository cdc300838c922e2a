"""The only reader of params.yaml: one frozen dataclass a stage, strict about names, types and ranges.

Every section name is the stage's name. `train` is a table: obfuscator name -> its method and settings.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

import yaml

from ddm_core.attack_params import AttackParams, RecogniserParams
from ddm_core.channel_names import LAB_CHANNELS
from ddm_core.errors import DdmError, did_you_mean
from ddm_core.fetch_params import FetchParams
from ddm_core.learned_params import DdmParams, KeyedDdmParams
from ddm_core.obfuscator_params import (
    METHODS,
    BlurParams,
    MosaicParams,
    NoneParams,
    ObfuscatorParams,
    P3Params,
    parse_obfuscator,
)
from ddm_core.ranges import require, require_positive
from ddm_core.results import ATTACKERS, CHANNELS, LAB_ATTACKERS
from ddm_core.strict import parse

__all__ = [  # what this module offers, wherever it is defined
    "METHODS",
    "AttackParams",
    "AttackerLimit",
    "BlurParams",
    "ChampionParams",
    "ChannelLimit",
    "DdmParams",
    "FetchParams",
    "GateParams",
    "KeyedDdmParams",
    "MosaicParams",
    "NoneParams",
    "ObfuscatorParams",
    "P3Params",
    "Params",
    "PrepareParams",
    "RecogniseParams",
    "RegisterParams",
    "ReportParams",
    "UtilityParams",
    "load",
    "parse_obfuscator",
    "parse_params",
    "read_yaml",
    "to_dict",
]


@dataclass(frozen=True)
class PrepareParams:
    """Decoding, square shape, size and splits. Fractions are in (0, 1); `image_size` is in pixels.

    `detect_faces` looks for the face in photos whose source does not say where it is (the extra `faces`) and
    aligns it; a photo without a face is quarantined.
    """

    image_size: int
    channels: Literal[1, 3]
    square: Literal["crop", "pad"]
    test_fraction: float
    identity_test_fraction: float
    max_bad_fraction: float
    shard_megabytes: int
    seed: int
    detect_faces: bool = False

    def __post_init__(self) -> None:
        require(
            16 <= self.image_size <= 1024,
            f"image_size is {self.image_size}; it must lie in 16..1024 pixels",
        )
        for name in ("test_fraction", "identity_test_fraction"):
            value = getattr(self, name)
            require(0 < value < 1, f"{name} is {value}; it must lie between 0 and 1")
        require(
            0 <= self.max_bad_fraction <= 1,
            f"max_bad_fraction is {self.max_bad_fraction}; it must lie in [0, 1]",
        )
        require_positive(self, "shard_megabytes")


@dataclass(frozen=True)
class RecogniseParams(RecogniserParams):
    """Training of the recogniser on clean photos: epochs over the train split."""

    epochs: int
    batch_size: int
    learning_rate: float
    threads: int
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epochs", "batch_size", "learning_rate", "threads")


@dataclass(frozen=True)
class UtilityParams:
    """What the receiver gets: encryptions of each test photo, measured after each of `channels`.

    The channels are some of `ddm_core.channel_names.LAB_CHANNELS`; by default the main pipeline's seven.
    """

    encryptions_per_photo: int
    threads: int
    seed: int
    channels: tuple[str, ...] = CHANNELS

    def __post_init__(self) -> None:
        require_positive(self, "encryptions_per_photo", "threads")
        require(len(self.channels) > 0, "channels is empty; name at least one, for example png")
        for name in self.channels:
            near = did_you_mean(name, LAB_CHANNELS)
            require(name in LAB_CHANNELS, f"channels: unknown channel {name!r}{near}")
            require(self.channels.count(name) == 1, f"channels names {name} twice; once is enough")


@dataclass(frozen=True)
class ReportParams:
    """Which obfuscator the report puts first."""

    headline: str


@dataclass(frozen=True)
class AttackerLimit:
    """What one attacker may reach: the upper end of the 95 % interval of its top-1 accuracy, a fraction."""

    max_top1_upper95: float

    def __post_init__(self) -> None:
        _require_fraction(self, "max_top1_upper95")


@dataclass(frozen=True)
class ChannelLimit:
    """What the receiver must get after one channel: PSNR in decibels, recognition as a fraction."""

    min_psnr_db: float
    min_recognition_top1: float

    def __post_init__(self) -> None:
        _require_fraction(self, "min_recognition_top1")


@dataclass(frozen=True)
class ChampionParams:
    """When a challenger that passed the gate replaces the champion, both measured on the same photos.

    Its mean PSNR over the gate's channels must be higher by at least `min_psnr_gain_db` (decibels). And with
    the one-sided `confidence` (a fraction) it must be worse by no more than a margin (fractions): the worst
    attacker's top-1 accuracy by `max_top1_rise`, recognition after each channel by `max_recognition_fall`.
    """

    min_psnr_gain_db: float
    max_top1_rise: float
    max_recognition_fall: float
    confidence: float

    def __post_init__(self) -> None:
        require(
            0 <= self.min_psnr_gain_db < 100,
            f"min_psnr_gain_db is {self.min_psnr_gain_db}; it must lie in 0..100 decibels",
        )
        _require_fraction(self, "max_top1_rise", "max_recognition_fall")
        require(
            0.5 <= self.confidence < 1,
            f"confidence is {self.confidence}; it must be a fraction from 0.5, below 1, such as 0.95",
        )


@dataclass(frozen=True)
class GateParams:
    """The gate's policy: what a model must reach, and when it replaces the champion.

    Every attacker in `attackers` must have been tried and stay below its limit, or be recorded as not
    applicable: a model that was never attacked has not shown that it withstands attacks. The worst of all
    attackers, named here or not, stays below `max_worst_case_top1_upper95` (a fraction). Every channel in
    `channels` must have been measured and reach its limits.
    """

    attackers: dict[str, AttackerLimit]
    max_worst_case_top1_upper95: float
    channels: dict[str, ChannelLimit]
    champion: ChampionParams

    def __post_init__(self) -> None:
        _require_fraction(self, "max_worst_case_top1_upper95")
        for where, names, known, example in (
            ("attackers", self.attackers, ATTACKERS + LAB_ATTACKERS, "retrained"),
            ("channels", self.channels, LAB_CHANNELS, "png"),
        ):
            require(len(names) > 0, f"{where} is empty; name at least one, for example {example}")
            for name in names:
                require(name in known, f"{where}: '{name}' is unknown{did_you_mean(name, known)}")


def _require_fraction(params: object, *names: str) -> None:
    for name in names:
        value = getattr(params, name)
        require(0 < value <= 1, f"{name} is {value}; it must be a fraction above 0, at most 1")


@dataclass(frozen=True)
class RegisterParams:
    """Registered model names (obfuscator -> name in the registry) and the gate's policy."""

    models: dict[str, str]
    gate: GateParams

    def __post_init__(self) -> None:
        names = list(self.models.values())
        require(len(set(names)) == len(names), "models gives two obfuscators one name; names must differ")
        for name in names:
            require(
                re.fullmatch(r"[\w.-]+", name) is not None,
                f"models has the name '{name}'; a name has letters, digits, '_', '-' and '.' only",
            )
            require(
                not name.endswith(".moves"),
                f"models has the name '{name}'; names that end in '.moves' record what became of a model",
            )


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    fetch: FetchParams
    prepare: PrepareParams
    train: dict[str, ObfuscatorParams]
    recognise: RecogniseParams
    attack: AttackParams
    utility: UtilityParams
    report: ReportParams
    register: RegisterParams

    def __post_init__(self) -> None:
        for name in self.train:  # names become folder names
            fits = re.fullmatch(r"[A-Za-z0-9_]+", name) is not None
            require(fits, f"train: '{name}' is no name; a name has letters, digits and '_' only")
        for where, name in [
            ("report: headline", self.report.headline),
            *(("register: models", obfuscator) for obfuscator in self.register.models),
        ]:
            known = name in self.train
            require(known, f"{where}: '{name}' is no obfuscator of train{did_you_mean(name, self.train)}")
        for name in self.register.gate.channels:
            require(
                name in self.utility.channels,
                f"register: gate: channels: '{name}' is not measured; add it to utility: channels",
            )


READERS: Final = {ObfuscatorParams: parse_obfuscator}


def load(path: Path) -> Params:
    """Read params.yaml.

    Raises:
        DdmError: missing file, bad YAML, unknown or missing key, wrong type, value out of range; one line.
    """
    return parse_params(read_yaml(path), str(path))


def load_section(path: Path, name: str) -> Any:  # noqa: ANN401 - the section's own dataclass
    """Read one section of a parameter file, such as `prepare`; a file may hold that section alone.

    Raises:
        DdmError: as `load`, of the whole file where it holds more.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != {name}:
        return getattr(parse_params(content, str(path)), name)
    return parse(content[name], get_type_hints(Params)[name], f"{path}: {name}", READERS)


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - YAML decides
    """Return the plain data of a parameter file.

    Raises:
        DdmError: missing or unreadable file, bad YAML; one line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DdmError(f"{path}: not found; run from the project folder or pass --params FILE") from None
    except OSError as error:
        raise DdmError(f"{path}: cannot be read ({error.strerror}); pass --params FILE") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date like 2024-13-45
        raise DdmError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def parse_params(content: Any, where: str) -> Params:  # noqa: ANN401 - YAML or JSON decides
    """Turn the plain data of params.yaml into `Params`; `where` names the place in messages.

    Raises:
        DdmError: unknown or missing key, wrong type, value out of range; one line.
    """
    return parse(content, Params, where, READERS)


def to_dict(params: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the dataclasses above
    """Return plain data that `parse` reads back."""
    return dataclasses.asdict(params)

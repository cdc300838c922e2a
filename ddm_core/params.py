"""The only reader of params.yaml: one frozen dataclass a stage, strict about names, types and ranges.

Every section name is the stage's name. `train` is a table: obfuscator name -> its method and settings.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.fetch_params import FetchParams as FetchParams  # noqa: PLC0414 - part of what this module offers
from ddm_core.strict import parse


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_positive(params: Any, *names: str) -> None:  # noqa: ANN401 - any of the dataclasses below
    for name in names:
        value = getattr(params, name)
        _require(0 < value < math.inf, f"{name} is {value}; it must be above 0")


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
        _require(
            16 <= self.image_size <= 1024,
            f"image_size is {self.image_size}; it must lie in 16..1024 pixels",
        )
        for name in ("test_fraction", "identity_test_fraction"):
            value = getattr(self, name)
            _require(0 < value < 1, f"{name} is {value}; it must lie between 0 and 1")
        _require(
            0 <= self.max_bad_fraction <= 1,
            f"max_bad_fraction is {self.max_bad_fraction}; it must lie in [0, 1]",
        )
        _require_positive(self, "shard_megabytes")


@dataclass(frozen=True)
class NoneParams:
    """The photo as it is: the attackers' own ceiling."""

    method: Literal["none"]


@dataclass(frozen=True)
class MosaicParams:
    """Each `block` x `block` square becomes its mean."""

    method: Literal["mosaic"]
    block: int

    def __post_init__(self) -> None:
        _require_positive(self, "block")


@dataclass(frozen=True)
class BlurParams:
    """Gaussian blur of an odd kernel size in pixels."""

    method: Literal["blur"]
    kernel: int

    def __post_init__(self) -> None:
        _require(self.kernel >= 3 and self.kernel % 2 == 1, f"kernel is {self.kernel}; odd, from 3")


@dataclass(frozen=True)
class P3Params:
    """P3's public part: DC removed, AC coefficients clipped at `threshold`, in a JPEG of `quality`."""

    method: Literal["p3"]
    threshold: int
    quality: int

    def __post_init__(self) -> None:
        _require_positive(self, "threshold")
        _require(1 <= self.quality <= 100, f"quality is {self.quality}; it must lie in 1..100")


@dataclass(frozen=True)
class OptimisationParams:
    """What one training run needs besides its networks. Rates per optimiser step; images in [0, 1]."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    discrepancy_weight: float
    reconstruction_weight: float
    precision: Literal["fp32", "bf16"]
    threads: int
    split: Literal["image", "identity"]
    seed: int

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "batch_size", "learning_rate", "reconstruction_weight", "threads")
        _require(0 <= self.warmup_steps < self.steps, f"warmup_steps is {self.warmup_steps}; below steps")
        _require(
            0 <= self.discrepancy_weight < math.inf,
            f"discrepancy_weight is {self.discrepancy_weight}; it must not be negative",
        )


@dataclass(frozen=True)
class DdmParams(OptimisationParams):
    """The paper's keyless DDM (DDM paper, collaborative objective). `width` is in convolution channels."""

    method: Literal["ddm"]
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "width")


@dataclass(frozen=True)
class KeyedDdmParams(OptimisationParams):
    """Keyed DDM: `quaternions` per grid cell, networks of `width` channels and `blocks` residual blocks."""

    method: Literal["keyed_ddm"]
    quaternions: int
    width: int
    blocks: int
    jpeg_probability: float
    jpeg_quality_min: int
    jpeg_quality_max: int
    resize_probability: float
    resize_scale_min: float
    noise_deviation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "quaternions", "width")
        _require(self.blocks >= 0, f"blocks is {self.blocks}; it must not be negative")
        _require(
            1 <= self.jpeg_quality_min <= self.jpeg_quality_max <= 100,
            "jpeg_quality_min and jpeg_quality_max must satisfy 1 <= min <= max <= 100",
        )
        _require(0.25 <= self.resize_scale_min <= 1, "resize_scale_min must lie in [0.25, 1]")
        _require(0 <= self.noise_deviation <= 0.1, "noise_deviation must lie in [0, 0.1]")
        for name in ("jpeg_probability", "resize_probability"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} is {value}; it must lie in [0, 1]")


ObfuscatorParams = NoneParams | MosaicParams | BlurParams | P3Params | DdmParams | KeyedDdmParams
METHODS: dict[str, type[Any]] = {
    "none": NoneParams,
    "mosaic": MosaicParams,
    "blur": BlurParams,
    "p3": P3Params,
    "ddm": DdmParams,
    "keyed_ddm": KeyedDdmParams,
}


@dataclass(frozen=True)
class RecogniseParams:
    """Training of the recogniser on clean photos: epochs over the train split."""

    epochs: int
    batch_size: int
    learning_rate: float
    threads: int
    seed: int

    def __post_init__(self) -> None:
        _require_positive(self, "epochs", "batch_size", "learning_rate", "threads")


@dataclass(frozen=True)
class AttackParams:
    """Training of the adaptive attackers and the size of their test."""

    epochs: int
    batch_size: int
    learning_rate: float
    inversion_steps: int
    inversion_learning_rate: float
    encryptions_per_photo: int
    threads: int
    seed: int

    def __post_init__(self) -> None:
        _require_positive(self, "epochs", "batch_size", "learning_rate", "inversion_steps")
        _require_positive(self, "inversion_learning_rate", "encryptions_per_photo", "threads")


@dataclass(frozen=True)
class UtilityParams:
    """What the receiver gets: encryptions of each test photo, measured after every channel."""

    encryptions_per_photo: int
    threads: int
    seed: int

    def __post_init__(self) -> None:
        _require_positive(self, "encryptions_per_photo", "threads")


@dataclass(frozen=True)
class ReportParams:
    """Which obfuscator the report puts first."""

    headline: str


@dataclass(frozen=True)
class GateParams:
    """What a model must reach. Accuracies are fractions, PSNR is in decibels.

    Every attacker in `attackers` must have been tried, or be recorded as not applicable: a model that was
    never attacked has not shown that it withstands attacks.
    """

    attackers: tuple[str, ...]
    max_worst_case_top1_upper95: float
    min_psnr_db: float
    min_psnr_db_jpeg75: float
    min_psnr_db_resize50: float
    min_recognition_top1: float

    def __post_init__(self) -> None:
        _require(len(self.attackers) > 0, "attackers is empty; name at least one, for example retrained")
        for name in ("max_worst_case_top1_upper95", "min_recognition_top1"):
            value = getattr(self, name)
            _require(0 < value <= 1, f"{name} is {value}; it must be a fraction above 0, at most 1")


@dataclass(frozen=True)
class RegisterParams:
    """Registered model names (obfuscator -> name in the registry), the gate and the champion's rule.

    A challenger replaces the champion when its mean PSNR over the gate's three channels is higher by at
    least `champion_min_psnr_gain_db` (decibels), both measured on the same photos.
    """

    models: dict[str, str]
    gate: GateParams
    champion_min_psnr_gain_db: float

    def __post_init__(self) -> None:
        names = list(self.models.values())
        _require(len(set(names)) == len(names), "models gives two obfuscators one name; names must differ")
        for name in names:
            _require(
                re.fullmatch(r"[\w.-]+", name) is not None,
                f"models has the name '{name}'; a name has letters, digits, '_', '-' and '.' only",
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
            _require(fits, f"train: '{name}' is no name; a name has letters, digits and '_' only")
        for where, name in [
            ("report: headline", self.report.headline),
            *(("register: models", obfuscator) for obfuscator in self.register.models),
        ]:
            known = name in self.train
            _require(known, f"{where}: '{name}' is no obfuscator of train{did_you_mean(name, self.train)}")


def load(path: Path) -> Params:
    """Read params.yaml.

    Raises:
        DdmError: missing file, bad YAML, unknown or missing key, wrong type, value out of range; one line.
    """
    return parse_params(read_yaml(path), str(path))


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
    return parse(content, Params, where, {ObfuscatorParams: parse_obfuscator})


def parse_obfuscator(content: Any, where: str) -> ObfuscatorParams:  # noqa: ANN401 - YAML or JSON decides
    """Turn one obfuscator's plain settings into the dataclass that its `method` names."""
    if not isinstance(content, dict) or "method" not in content:
        raise DdmError(f"{where}: expected a mapping with a key 'method', got {content!r}")
    method = str(content["method"])
    if method not in METHODS:
        raise DdmError(f"{where}: unknown method {method!r}{did_you_mean(method, METHODS)}")
    params: ObfuscatorParams = parse(content, METHODS[method], where)
    return params


def to_dict(params: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the dataclasses above
    """Return plain data that `parse` reads back."""
    return dataclasses.asdict(params)

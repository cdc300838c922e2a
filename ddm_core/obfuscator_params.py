"""The settings of every obfuscation method: one frozen dataclass a method, strict about types and ranges."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.learned_params import DdmParams, KeyedDdmParams, MethodParams, PhotoDdmParams
from ddm_core.ranges import require, require_positive
from ddm_core.strict import parse

EXTERNAL_OFFERS = ("nonces", "decrypt", "with_key")
"""What code of others may offer: nonces it reads, decryption, another master key on demand."""


@dataclass(frozen=True)
class NoneParams(MethodParams):
    """The photo as it is: the attackers' own ceiling."""

    method: Literal["none"]


@dataclass(frozen=True)
class MosaicParams(MethodParams):
    """Each `block` x `block` square becomes its mean."""

    method: Literal["mosaic"]
    block: int

    def __post_init__(self) -> None:
        require_positive(self, "block")


@dataclass(frozen=True)
class BlurParams(MethodParams):
    """Gaussian blur of an odd kernel size in pixels."""

    method: Literal["blur"]
    kernel: int

    def __post_init__(self) -> None:
        require(self.kernel >= 3 and self.kernel % 2 == 1, f"kernel is {self.kernel}; odd, from 3")


@dataclass(frozen=True)
class P3Params(MethodParams):
    """P3's public part: DC removed, AC coefficients clipped at `threshold`, in a JPEG of `quality`."""

    method: Literal["p3"]
    threshold: int
    quality: int

    def __post_init__(self) -> None:
        require_positive(self, "threshold")
        require(1 <= self.quality <= 100, f"quality is {self.quality}; it must lie in 1..100")


@dataclass(frozen=True)
class PixelPermutationParams(MethodParams):
    """One fixed permutation of all pixels, drawn from `seed`, the same for every photo."""

    method: Literal["pixel_permutation"]
    seed: int


@dataclass(frozen=True)
class BlockPermutationParams(MethodParams):
    """One fixed permutation of the pixels of a `block` x `block` square, the same in every square."""

    method: Literal["block_permutation"]
    block: int
    seed: int

    def __post_init__(self) -> None:
        require_positive(self, "block")


@dataclass(frozen=True)
class LearnableEncryptionParams(MethodParams):
    """Learnable image encryption (Tanaka 2018) on `block` x `block` squares, one fixed key from `seed`."""

    method: Literal["learnable_encryption"]
    block: int
    seed: int

    def __post_init__(self) -> None:
        require_positive(self, "block")


@dataclass(frozen=True)
class BlockScramblingParams(MethodParams):
    """Squares of `block` pixels shuffled, turned, flipped and negated, under a fresh key a photo."""

    keyed: ClassVar[bool] = True
    decrypts: ClassVar[bool] = True

    method: Literal["block_scrambling"]
    block: int

    def __post_init__(self) -> None:
        require_positive(self, "block")


@dataclass(frozen=True)
class XorCipherParams(MethodParams):
    """Every byte XORed with a keystream."""

    keyed: ClassVar[bool] = True
    decrypts: ClassVar[bool] = True

    method: Literal["xor_cipher"]


@dataclass(frozen=True)
class AddmodCipherParams(MethodParams):
    """A keystream added to every byte, modulo 256."""

    keyed: ClassVar[bool] = True
    decrypts: ClassVar[bool] = True

    method: Literal["addmod_cipher"]


@dataclass(frozen=True)
class DpPixParams(MethodParams):
    """DP-Pix (Fan 2018): block means with Laplace noise.

    `neighbourhood` is how many pixels two neighbouring images may differ in, `epsilon` the privacy budget of
    one channel.
    """

    keyed: ClassVar[bool] = True

    method: Literal["dp_pix"]
    block: int
    neighbourhood: int
    epsilon: float

    def __post_init__(self) -> None:
        require_positive(self, "block", "neighbourhood", "epsilon")


@dataclass(frozen=True)
class DpBlurParams(MethodParams):
    """DP-Blur (Fan 2019): DP-Pix, then a Gaussian blur of an odd `kernel` size in pixels."""

    keyed: ClassVar[bool] = True

    method: Literal["dp_blur"]
    block: int
    neighbourhood: int
    epsilon: float
    kernel: int

    def __post_init__(self) -> None:
        require_positive(self, "block", "neighbourhood", "epsilon")
        require(self.kernel >= 3 and self.kernel % 2 == 1, f"kernel is {self.kernel}; odd, from 3")


@dataclass(frozen=True)
class KSameParams(MethodParams):
    """k-same-pixel (Newton, Sweeney and Malin 2005): the average of a group of at least `k` people."""

    method: Literal["k_same"]
    k: int

    def __post_init__(self) -> None:
        require(self.k >= 2, f"k is {self.k}; it must be at least 2, or nobody hides among others")


@dataclass(frozen=True)
class ExternalParams(MethodParams):
    """Code of others: `uri` is module:function or an MLflow model, such as models:/name/version.

    `offers` and `sha256` are found out and written down, not set: what the code can do besides encrypting
    (of EXTERNAL_OFFERS), and the digest of the files of an MLflow model.
    """

    method: Literal["external"]
    uri: str
    offers: tuple[str, ...] = field(default=(), kw_only=True)
    sha256: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        fits = re.fullmatch(r"models:/.+|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", self.uri) is not None
        require(fits, f"uri is '{self.uri}'; write module:function or models:/name/version")
        for offer in self.offers:
            require(offer in EXTERNAL_OFFERS, f"offers: unknown '{offer}'; {', '.join(EXTERNAL_OFFERS)}")


ObfuscatorParams = (
    NoneParams
    | MosaicParams
    | BlurParams
    | P3Params
    | PixelPermutationParams
    | BlockPermutationParams
    | LearnableEncryptionParams
    | BlockScramblingParams
    | XorCipherParams
    | AddmodCipherParams
    | DpPixParams
    | DpBlurParams
    | KSameParams
    | ExternalParams
    | DdmParams
    | KeyedDdmParams
    | PhotoDdmParams
)
METHODS: dict[str, type[Any]] = {
    "none": NoneParams,
    "mosaic": MosaicParams,
    "blur": BlurParams,
    "p3": P3Params,
    "pixel_permutation": PixelPermutationParams,
    "block_permutation": BlockPermutationParams,
    "learnable_encryption": LearnableEncryptionParams,
    "block_scrambling": BlockScramblingParams,
    "xor_cipher": XorCipherParams,
    "addmod_cipher": AddmodCipherParams,
    "dp_pix": DpPixParams,
    "dp_blur": DpBlurParams,
    "k_same": KSameParams,
    "external": ExternalParams,
    "ddm": DdmParams,
    "keyed_ddm": KeyedDdmParams,
    "photo_ddm": PhotoDdmParams,
}


def parse_obfuscator(content: Any, where: str) -> ObfuscatorParams:  # noqa: ANN401 - YAML or JSON decides
    """Turn one obfuscator's plain settings into the dataclass that its `method` names.

    Raises:
        DdmError: no or unknown method, or settings that do not fit it; one line.
    """
    if not isinstance(content, dict) or "method" not in content:
        raise DdmError(f"{where}: expected a mapping with a key 'method', got {content!r}")
    method = str(content["method"])
    if method not in METHODS:
        raise DdmError(f"{where}: unknown method {method!r}{did_you_mean(method, METHODS)}")
    params: ObfuscatorParams = parse(content, METHODS[method], where)
    return params

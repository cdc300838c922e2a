"""The settings of every obfuscation method: one frozen dataclass a method, strict about types and ranges."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.ranges import require, require_positive
from ddm_core.strict import parse

EXTERNAL_OFFERS = ("nonces", "decrypt", "with_key")
"""What code of others may offer: nonces it reads, decryption, another master key on demand."""


@dataclass(frozen=True)
class MethodParams:
    """What every method's settings say of it, without an import of its code.

    `keyed`: its secret randomness comes from a master key and one nonce a photo. `decrypts`: the receiver can
    restore the photo.
    """

    keyed: ClassVar[bool] = False
    decrypts: ClassVar[bool] = False


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
class OptimisationParams(MethodParams):
    """What one training run needs besides its networks. Rates per optimiser step; images in [0, 1].

    `accumulation` cuts each process's part of a batch into so many pieces, one after another, for less
    memory: the same step, but for rounding. `max_gradient_norm` bounds the L2 norm of the networks'
    gradients, of the discriminator's together with them where `clip_discriminator` says so. `compile` lets
    torch.compile work on the networks. `data`: photos in `memory`, drawn anew for each batch; as a `stream`
    of shards in epochs; or `auto`, a stream above `training_photos.MOST_BYTES_IN_MEMORY` and from S3.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    discrepancy_weight: float
    reconstruction_weight: float
    precision: Literal["fp32", "bf16", "fp16"]
    threads: int
    split: Literal["image", "identity"]
    seed: int
    accumulation: int = field(default=1, kw_only=True)
    max_gradient_norm: float = field(default=1.0, kw_only=True)
    clip_discriminator: bool = field(default=False, kw_only=True)
    compile: bool = field(default=False, kw_only=True)
    data: Literal["auto", "memory", "stream"] = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        require_positive(self, "steps", "batch_size", "learning_rate", "reconstruction_weight", "threads")
        require_positive(self, "max_gradient_norm")
        require(
            1 <= self.accumulation <= self.batch_size,
            f"accumulation is {self.accumulation}; it must lie in 1..batch_size",
        )
        require(
            self.data != "stream" or self.split == "image",
            "data is stream, which the shards allow with split: image alone",
        )
        require(0 <= self.warmup_steps < self.steps, f"warmup_steps is {self.warmup_steps}; below steps")
        require(
            0 <= self.discrepancy_weight < math.inf,
            f"discrepancy_weight is {self.discrepancy_weight}; it must not be negative",
        )


@dataclass(frozen=True)
class DdmParams(OptimisationParams):
    """The paper's keyless DDM (DDM paper, collaborative objective). `width` is in convolution channels."""

    decrypts: ClassVar[bool] = True
    method: Literal["ddm"]
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "width")


class NetworkSize(NamedTuple):
    """Width in channels and residual blocks of one network's trunk."""

    width: int
    blocks: int


class KeyedNetworkSizes(NamedTuple):
    """Of keyed DDM's four networks."""

    encoder: NetworkSize
    renderer: NetworkSize
    seeker: NetworkSize
    decoder: NetworkSize


@dataclass(frozen=True)
class KeyedParams(OptimisationParams):
    """Keyed DDM: `quaternions` per cell of 8x8 pixels, and the channel that training sends x_e through.

    The linear parts of the networks, which start as a code that works, learn at `linear_learning_rate`. By
    chance a batch is coded as JPEG, scaled down to no less than `resize_scale_min` and up again, or gets
    noise of `noise_deviation` in parts of the 0..1 scale.
    """

    keyed: ClassVar[bool] = True
    decrypts: ClassVar[bool] = True
    carrier: ClassVar[int]
    """Pixels of x_e a side for a cell of the photo."""
    angle_scale: ClassVar[float]
    """Multiplies the angles that quaternions start with: 1 for detailed photos, more for smooth ones."""
    quaternions: int
    linear_learning_rate: float
    jpeg_probability: float
    jpeg_quality_min: int
    jpeg_quality_max: int
    resize_probability: float
    resize_scale_min: float
    noise_deviation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for network, size in self.sizes._asdict().items():
            require(size.width > 0, f"the {network}'s width is {size.width}; it must be positive")
            require(size.blocks >= 0, f"the {network}'s blocks are {size.blocks}; not negative")
        least, most = (self.carrier // 2) ** 2 // 4 + 1, self.carrier**2 // 4
        require(
            least <= self.quaternions <= most,
            f"quaternions is {self.quaternions}; it must lie in {least}..{most}",
        )
        require_positive(self, "linear_learning_rate")
        require(
            1 <= self.jpeg_quality_min <= self.jpeg_quality_max <= 100,
            "jpeg_quality_min and jpeg_quality_max must satisfy 1 <= min <= max <= 100",
        )
        require(0.25 <= self.resize_scale_min <= 1, "resize_scale_min must lie in [0.25, 1]")
        require(0 <= self.noise_deviation <= 0.1, "noise_deviation must lie in [0, 0.1]")
        shares = self.jpeg_probability, self.resize_probability
        require(
            all(share >= 0 for share in shares) and sum(shares) <= 1,
            "jpeg_probability and resize_probability must not be negative, nor above 1 together",
        )

    @property
    def sizes(self) -> KeyedNetworkSizes:
        """Return the sizes of the networks."""
        raise NotImplementedError


@dataclass(frozen=True)
class KeyedDdmParams(KeyedParams):
    """Keyed DDM with an x_e as large as the photo; at most 16 quaternions, four of them robust.

    `width` and `blocks` are those of the trunks; the renderer's has no block.
    """

    carrier: ClassVar[int] = 8
    angle_scale: ClassVar[float] = 2.0
    site_share: ClassVar[float] = 0.0
    method: Literal["keyed_ddm"]
    width: int
    blocks: int

    @property
    def sizes(self) -> KeyedNetworkSizes:
        """Return the sizes of the networks."""
        trunk = NetworkSize(self.width, self.blocks)
        return KeyedNetworkSizes(trunk, NetworkSize(self.width, 0), trunk, trunk)


@dataclass(frozen=True)
class PhotoDdmParams(KeyedParams):
    """Keyed DDM for photos of any size, whose x_e survives photo sites (docs/method.md).

    x_e has 1.5 times as many pixels a side; at most 36 quaternions, nine of them robust. Each network has its
    width in channels and its residual blocks. `site_share` of each batch is halved and coded as JPEG.
    """

    carrier: ClassVar[int] = 12
    angle_scale: ClassVar[float] = 1.0
    method: Literal["photo_ddm"]
    encoder_width: int
    encoder_blocks: int
    renderer_width: int
    renderer_blocks: int
    seeker_width: int
    seeker_blocks: int
    decoder_width: int
    decoder_blocks: int
    site_share: float
    resize_scale_min: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.site_share <= 1, f"site_share is {self.site_share}; it must lie in [0, 1]")

    @property
    def sizes(self) -> KeyedNetworkSizes:
        """Return the sizes of the networks."""
        return KeyedNetworkSizes(
            NetworkSize(self.encoder_width, self.encoder_blocks),
            NetworkSize(self.renderer_width, self.renderer_blocks),
            NetworkSize(self.seeker_width, self.seeker_blocks),
            NetworkSize(self.decoder_width, self.decoder_blocks),
        )


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
LearnedParams = DdmParams | KeyedDdmParams | PhotoDdmParams
LEARNED = (DdmParams, KeyedDdmParams, PhotoDdmParams)
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

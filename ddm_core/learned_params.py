"""The settings of the methods that learn: of their training, and of the networks of each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from ddm_core.ranges import require, require_positive


@dataclass(frozen=True)
class MethodParams:
    """What every method's settings say of it, without an import of its code.

    `keyed`: its secret randomness comes from a master key and one nonce a photo. `decrypts`: the receiver can
    restore the photo.
    """

    keyed: ClassVar[bool] = False
    decrypts: ClassVar[bool] = False


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


class CodeStart(NamedTuple):
    """What keyed DDM's code starts with (`obfuscators.cell_code`); found by trials, docs/experiments.md.

    Angles are the root mean square, in radians, of a group's rotation over detailed photos: large ones
    drown the noise, but their tails come near pi, where a little noise turns the direction around. They are
    given for octonions, robust quaternions that are not joined, and detail. Deviations are those of the
    pixels of x_e, by band, if all its groups were quaternions; numbers of octonions are drawn 1/sqrt(2) as
    strong.
    """

    octonion_angle: float
    robust_angle: float
    detail_angle: float
    robust_deviation: float
    detail_deviation: float


@dataclass(frozen=True)
class KeyedParams(OptimisationParams, ABC):
    """Keyed DDM: `quaternions` per cell of 8x8 pixels, and the channel that training sends x_e through.

    The linear parts of the networks, which start as a code that works, learn at `linear_learning_rate`. By
    chance a batch is coded as JPEG, scaled down and up again, or gets noise of `noise_deviation` in parts of
    the 0..1 scale. Scales are drawn from `resize_scale_min` to 1, but `resize_min_share` of them is that
    least one, the hardest.
    """

    keyed: ClassVar[bool] = True
    decrypts: ClassVar[bool] = True
    carrier: ClassVar[int]
    """Pixels of x_e a side for a cell of the photo."""
    octonions: ClassVar[int]
    """Pairs of robust quaternions that are joined."""
    start: ClassVar[CodeStart]
    quaternions: int
    linear_learning_rate: float
    jpeg_probability: float
    jpeg_quality_min: int
    jpeg_quality_max: int
    resize_probability: float
    resize_scale_min: float
    resize_min_share: float
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
        require(0 <= self.resize_min_share <= 1, "resize_min_share must lie in [0, 1]")
        require(0 <= self.noise_deviation <= 0.1, "noise_deviation must lie in [0, 0.1]")
        shares = self.jpeg_probability, self.resize_probability
        require(
            all(share >= 0 for share in shares) and sum(shares) <= 1,
            "jpeg_probability and resize_probability must not be negative, nor above 1 together",
        )

    @property
    @abstractmethod
    def sizes(self) -> KeyedNetworkSizes:
        """Return the sizes of the networks."""


@dataclass(frozen=True)
class KeyedDdmParams(KeyedParams):
    """Keyed DDM with an x_e as large as the photo; at most 16 quaternions, four of them robust.

    `width` and `blocks` are those of the trunks; the renderer's has no block.
    """

    carrier: ClassVar[int] = 8
    octonions: ClassVar[int] = 2
    start: ClassVar[CodeStart] = CodeStart(2.0, 2.0, 1.8, 0.14, 0.13)  # faces are smooth: large angles
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
    octonions: ClassVar[int] = 2  # more would lose at photo sites what they gain elsewhere
    start: ClassVar[CodeStart] = CodeStart(1.0, 0.8, 0.6, 0.2, 0.1)
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
    resize_min_share: float = field(default=0.0, kw_only=True)

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


LearnedParams = DdmParams | KeyedDdmParams | PhotoDdmParams
LEARNED = (DdmParams, KeyedDdmParams, PhotoDdmParams)

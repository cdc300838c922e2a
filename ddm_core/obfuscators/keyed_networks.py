"""Keyed DDM's networks: the latent of the photo is rotated by the keystream before anything is drawn.

encoder E: photo -> unit octonions and quaternions z, a grid of some a cell of 8x8 pixels
z' = k z: Haar measure is invariant, so z' is uniform whatever z is (`rotations`)
renderer R: x_e = R(z'); the photo cannot reach x_e any other way, since R takes nothing but z'
receiver: seeker S reads z' from x_e, z = k* z', decoder: photo

The code that they start with is `cell_code`: some quaternions of each cell survive halving, joined in pairs
to octonions as far as they go; the others hold the detail that halving takes away. A rotation vector holds
three numbers, or seven (z = exp(v)), which gives brightness the whole circle.

Seeker and decoder do not bring what they read back to unit norm: what the channel has destroyed arrives
short, and the decoder goes without it.

x_e is drawn in one channel. A colour model repeats it over RGB and reads the luma of what arrives, so that
chroma subsampling costs nothing; a copy stored in grey decrypts just as well. A photo whose sides are no
multiples of the cell is padded by its edge, and x_e keeps the padded size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddm_core import rotations
from ddm_core.channel import luma, round_to_8_bits, simulate_jpeg, simulate_resize, simulate_site
from ddm_core.data_parallel import BatchPart, whole_batch
from ddm_core.keys import Grid
from ddm_core.learned_params import KeyedDdmParams, PhotoDdmParams
from ddm_core.networks import BlendedCellNetwork, CellNetwork, crop_like, pad_to_multiple
from ddm_core.obfuscators.cell_code import MOST_ANGLE, PATCH, CellLayout, cell_code

if TYPE_CHECKING:
    from ddm_core.training import ParameterGroup

_DOUBTFUL = 0.1  # the fourth power of a length: shorter quaternions count for less than half


class KeyedNetworks(nn.Module):
    """Encoder, renderer, seeker and decoder for images [batch, channels, height, width] in [0, 1].

    All are convolutions of a known reach, so that a large photo can be worked on in tiles that overlap by it.
    """

    patch = PATCH

    def __init__(self, channels: int, params: KeyedDdmParams | PhotoDdmParams) -> None:
        super().__init__()
        self.channels = channels
        self.carrier: int = params.carrier
        self.params = params
        self.layout = CellLayout(channels, params.carrier, params.octonions)
        count, carrier, pixels = params.quaternions, params.carrier**2, self.layout.pixels
        numbers, sizes = self.layout.numbers(count), params.sizes
        self.encoder = CellNetwork(pixels, numbers, *sizes.encoder)
        self.renderer = CellNetwork(4 * count, carrier, *sizes.renderer)
        self.seeker = BlendedCellNetwork(carrier, carrier, 4 * count, *sizes.seeker)
        self.decoder = BlendedCellNetwork(numbers, numbers + 4 * count, pixels, *sizes.decoder)
        start = cell_code(self.layout, count, params.start)
        self.encoder.start_linear(*start.encode)
        self.renderer.start_linear(*start.render)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the linear parts and the trunks, each with its learning rate."""
        linear: list[nn.Parameter] = []
        trunks: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            (linear if ".linear." in name else trunks).append(parameter)
        return [
            {"params": linear, "lr": self.params.linear_learning_rate},
            {"params": trunks, "lr": self.params.learning_rate},
        ]

    @property
    def hide_reach(self) -> int:
        """How many cells away a patch of the photo still changes x_e, given the same keystream."""
        sizes = self.params.sizes
        return sizes.encoder.blocks + 1 + sizes.renderer.blocks + 1

    @property
    def reveal_reach(self) -> int:
        """How many cells away a cell of x_e still changes the restored photo."""
        # The seeker's readings and their mean reach 2, the decoder's mean 1; the trunks add to that.
        sizes = self.params.sizes
        return sizes.seeker.blocks + 3 + sizes.decoder.blocks + 2

    def grid(self, images: Tensor) -> Grid:
        """Return the rotations that one of these images needs."""
        rows, columns = (-(-side // PATCH) for side in images.shape[-2:])
        return Grid(self.layout.octonions, self.params.quaternions, rows, columns)

    def encode(self, images: Tensor) -> Tensor:
        """Return the latent z, exactly of unit norm: [batch, n, 4, rows, columns]."""
        # The arithmetic of rotations stays in fp32: in bf16 a unit norm is off by up to 0.4 %.
        vectors = self.encoder(self.cells(images)).float()
        return rotations.exponential(vectors, self.layout.octonions, MOST_ANGLE)

    def rotated(self, images: Tensor, rotation: Tensor) -> Tensor:
        """Return z' = k E(x) for rotations [batch, n, 4, rows, columns]."""
        return rotations.rotate(rotation, self.encode(images), self.layout.octonions)

    def cells(self, images: Tensor) -> Tensor:
        """Return what the encoder takes: cells around mid grey, which so lies around the photo, too."""
        return F.pixel_unshuffle(pad_to_multiple(images, PATCH) - 0.5, PATCH)

    def render(self, rotated: Tensor) -> Tensor:
        """Return x_e in neutral colours, rounded to 8 bits: [batch, channels, height, width] in [0, 1]."""
        return self.draw(rotated).expand(-1, self.channels, -1, -1)

    def seek(self, hidden: Tensor) -> Tensor:
        """Return the estimate of z' [batch, n, 4, rows, columns], shorter where less certain; grey or RGB."""
        cells = F.pixel_unshuffle(luma(hidden) - 0.5, self.carrier)
        readings = self.seeker.read(cells)
        blend = wholeness(self._group(readings[0], 4), self.layout.robust)
        return self._group(self.seeker(cells, readings, blend), 4)

    def decode(self, latent: Tensor) -> Tensor:
        """Return x_r of an estimate of z, unbounded so that training sees the whole error."""
        seen = read_rotations(latent, self.layout.octonions)
        restored = self.decoder(seen, self.decoder.read(seen), wholeness(latent, self.layout.robust))
        return F.pixel_shuffle(restored.float(), PATCH)

    def hide(self, images: Tensor, rotation: Tensor) -> Tensor:
        """Return x_e = R(k E(x)) for rotations [batch, n, 4, rows, columns]."""
        return self.render(self.rotated(images, rotation))

    def reveal(self, hidden: Tensor, rotation: Tensor) -> Tensor:
        """Return x_r = Dec(k* S(x_e))."""
        return self.decode(rotations.rotate_back(rotation, self.seek(hidden), self.layout.octonions))

    def round_trip(
        self, images: Tensor, generator: torch.Generator, part: BatchPart | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (x_e, x_r) for one training batch: fresh rotations, and a random channel in between.

        Both are cut to the photos' size. With `part` the images are that part of a batch; rotations and
        channels are drawn for the whole.
        """
        part = part or whole_batch(len(images))
        whole = rotations.random_unit(part.whole, self.grid(images), generator)
        rotation = part.of(whole).to(images.device)
        hidden = self.draw(self.rotated(images, rotation))
        # In bf16 the channel's matrix products would be grey levels off.
        with torch.autocast(images.device.type, enabled=False):
            site, others = part.split(round(self.params.site_share * part.whole))
            own = site.last - site.first
            received = torch.cat(
                [
                    _site(hidden[:own], self.params, generator, site),
                    _random_channel(hidden[own:], self.params, generator, others),
                ]
            )
        shown = crop_like(hidden, images).expand(-1, self.channels, -1, -1)
        return shown, crop_like(self.reveal(received, rotation), images)

    def draw(self, rotated: Tensor) -> Tensor:
        """Return x_e as `render` does, in one channel."""
        return round_to_8_bits(self.drawn(rotated))

    def drawn(self, rotated: Tensor) -> Tensor:
        """Return x_e in one channel before it is rounded, unbounded.

        The rotated latent is the ONLY argument, and this the renderer's only use: no way around the key.
        """
        return F.pixel_shuffle(self.renderer(rotated.flatten(1, 2)).float(), self.carrier)

    def _group(self, grid: Tensor, members: int) -> Tensor:
        batch, _, height, width = grid.shape
        return grid.float().view(batch, self.params.quaternions, members, height, width)


def read_rotations(latent: Tensor, octonions: int) -> Tensor:
    """Return what the decoder sees of a latent [batch, n, 4, h, w]: [batch, numbers + 4 n, h, w].

    First the rotation vectors, weakened where their group is short, then the latent itself.
    """
    vectors, power = rotations.logarithm(latent, octonions)
    trusted = vectors * (power.square() / (power.square() + _DOUBTFUL))
    return torch.cat([trusted, latent.flatten(1, 2)], dim=1)


def wholeness(latent: Tensor, robust: int) -> Tensor:
    """Return, cell by cell [batch, 1, h, w], 1 where the detail quaternions have arrived and 0 where not.

    The first `robust` quaternions are not of them. They are drawn as unit quaternions whatever the photo is:
    what is shorter was lost on the way. Rotations keep the length, so that it can be read before and after
    them.
    """
    power = latent[:, robust:].square().sum(dim=2).mean(dim=1, keepdim=True)
    nearby = F.avg_pool2d(power, 3, stride=1, padding=1, count_include_pad=False)
    return torch.sigmoid(16.0 * (nearby - 0.4))


def _site(
    hidden: Tensor, params: KeyedDdmParams | PhotoDdmParams, generator: torch.Generator, part: BatchPart
) -> Tensor:
    if not part.whole:
        return hidden
    quality = _quality(params, generator)
    return simulate_site(hidden, quality) if len(hidden) else hidden


def _random_channel(
    hidden: Tensor, params: KeyedDdmParams | PhotoDdmParams, generator: torch.Generator, part: BatchPart
) -> Tensor:
    draw, which = torch.rand(2, generator=generator).tolist()
    least, least_share = params.resize_scale_min, params.resize_min_share
    if draw < params.jpeg_probability:
        quality = _quality(params, generator)
        return simulate_jpeg(hidden, quality) if len(hidden) else hidden
    if draw < params.jpeg_probability + params.resize_probability:
        above = max(0.0, which - least_share) / max(1e-9, 1 - least_share)
        return simulate_resize(hidden, least + (1 - least) * above) if len(hidden) else hidden
    noise = part.of(torch.randn(part.whole, *hidden.shape[1:], generator=generator))
    return round_to_8_bits(hidden + params.noise_deviation * noise.to(hidden.device))


def _quality(params: KeyedDdmParams | PhotoDdmParams, generator: torch.Generator) -> int:
    span = params.jpeg_quality_max - params.jpeg_quality_min + 1
    return params.jpeg_quality_min + int(torch.randint(span, (1,), generator=generator))

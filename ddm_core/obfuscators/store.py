"""An obfuscator as a folder: obfuscator.json (method, settings, image shape), weights.safetensors if any."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.errors import DdmError
from ddm_core.learned_params import DdmParams, KeyedDdmParams, KeyedParams, PhotoDdmParams
from ddm_core.obfuscator_params import (
    AddmodCipherParams,
    BlockPermutationParams,
    BlockScramblingParams,
    BlurParams,
    DpBlurParams,
    DpPixParams,
    ExternalParams,
    KSameParams,
    LearnableEncryptionParams,
    MosaicParams,
    NoneParams,
    ObfuscatorParams,
    P3Params,
    PixelPermutationParams,
    XorCipherParams,
    parse_obfuscator,
)
from ddm_core.strict import parse

if TYPE_CHECKING:
    from torch import nn

    from ddm_core.obfuscators.protocol import Obfuscator

FORMER_VERSION = 1
_VERSIONS = {"keyed_ddm": 2, "photo_ddm": 2}  # all others have the former: they mean what they meant
RGB = 3  # channels


@dataclass(frozen=True)
class TrainingData:
    """The prepared photos that a model learned from: their digest, and what their source says of itself."""

    dataset_digest: str
    source: str | None = None
    credit: str | None = None
    licence: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Description:
    """What obfuscator.json says: the settings, and the images [channels, image_size, image_size].

    `trained_on` is `None` where nothing was learned, or where nobody noted what from.
    """

    params: ObfuscatorParams
    channels: int
    image_size: int
    trained_on: TrainingData | None = None

    @property
    def keyed(self) -> bool:
        """Whether a master key is needed."""
        return self.params.keyed or "with_key" in self._external_offers

    @property
    def randomised(self) -> bool:
        """Whether one photo has many obfuscations, by the nonce."""
        return self.keyed or "nonces" in self._external_offers

    @property
    def decrypts(self) -> bool:
        """Whether the receiver can restore the photo."""
        return self.params.decrypts or "decrypt" in self._external_offers

    @property
    def _external_offers(self) -> tuple[str, ...]:
        return self.params.offers if isinstance(self.params, ExternalParams) else ()

    @property
    def takes_any_size(self) -> bool:
        """Whether it is meant for photos of any size: those travel as `ddm_core.photos` sends them."""
        return isinstance(self.params, PhotoDdmParams)

    @property
    def hidden_size(self) -> int:
        """Side in pixels of the obfuscated images; keyed DDM pads photos, photo DDM enlarges them."""
        if isinstance(self.params, KeyedParams):
            from ddm_core.obfuscators.cell_code import PATCH

            return -(-self.image_size // PATCH) * self.params.carrier
        return self.image_size


def save_obfuscator(folder: Path, description: Description, networks: nn.Module | None = None) -> None:
    """Write the folder's files; the caller makes the folder appear at once (files.atomic_directory)."""
    from ddm_core.checkpoints import CONFIGURATION, WEIGHTS, save_weights
    from ddm_core.files import write_json

    configuration: dict[str, Any] = {
        "format_version": format_version(description.params.method),
        "channels": description.channels,
        "image_size": description.image_size,
        "params": dataclasses.asdict(description.params),
    }
    if description.trained_on is not None:
        configuration["trained_on"] = dataclasses.asdict(description.trained_on)
    write_json(folder / CONFIGURATION, configuration)
    if networks is not None:
        save_weights(networks, folder / WEIGHTS)


def describe(folder: Path) -> Description:
    """Read obfuscator.json, without torch.

    Raises:
        DdmError: missing, damaged, or of another format version.
    """
    from ddm_core.files import read_json

    path = folder / "obfuscator.json"
    content = read_json(path)
    _check_version(content, path)
    try:
        channels, image_size, params = int(content["channels"]), int(content["image_size"]), content["params"]
    except KeyError as error:
        raise DdmError(f"{path}: missing key {error}; train the model again") from None
    except (TypeError, ValueError) as error:
        raise DdmError(f"{path}: damaged ({error}); train the model again") from None
    trained_on = content.get("trained_on")
    if trained_on is not None:
        trained_on = parse(trained_on, TrainingData, f"{path}: trained_on")
    return Description(parse_obfuscator(params, str(path)), channels, image_size, trained_on)


def format_version(method: str) -> int:
    """Return the format version of a method's folders; it rises when weights come to mean something else."""
    return _VERSIONS.get(method, FORMER_VERSION)


def _check_version(content: Any, path: Path) -> None:  # noqa: ANN401 - whatever the file held
    version = content.get("format_version") if isinstance(content, dict) else None
    params = content.get("params") if isinstance(content, dict) else None
    method = str(params.get("method")) if isinstance(params, dict) else ""
    expected = format_version(method)
    if version == expected:
        return
    former = version == FORMER_VERSION and expected > FORMER_VERSION
    raise DdmError(
        f"{path}: format version {version}, this code reads {expected}; train it again"
        + ("; photos that it encrypted need it and the code that made it" if former else "")
    )


def build_networks(description: Description) -> nn.Module:
    """Return the untrained networks of a learned method, weights from torch's global generator."""
    from ddm_core.obfuscators.ddm import DdmNetworks
    from ddm_core.obfuscators.keyed_networks import KeyedNetworks

    params = description.params
    if isinstance(params, DdmParams):
        return DdmNetworks(description.channels, params.width)
    if isinstance(params, KeyedDdmParams | PhotoDdmParams):
        if isinstance(params, PhotoDdmParams) and description.channels != RGB:
            raise DdmError("method photo_ddm is for RGB photos; set prepare: channels to 3")
        return KeyedNetworks(description.channels, params)
    raise DdmError(f"method {params.method} has no networks; learned methods: ddm, keyed_ddm, photo_ddm")


def load_obfuscator(folder: Path, *, master_key: bytes | None = None, device: str = "cpu") -> Obfuscator:
    """Return the obfuscator that a folder describes, on `device`.

    Raises:
        DdmError: missing or damaged files, a keyed method without a master key, or external code that cannot
            be loaded.
    """
    description = describe(folder)
    if not description.keyed:
        return _load_keyless(description, folder, device)
    if master_key is None:
        raise DdmError(f"{folder}: a keyed model needs a master key; make one: ddm key new FILE")
    return _load_keyed(description, folder, device, master_key)


def _load_keyless(description: Description, folder: Path, device: str) -> Obfuscator:  # noqa: PLR0911 - a table
    from ddm_core.checkpoints import WEIGHTS
    from ddm_core.obfuscators import classical, permutation
    from ddm_core.obfuscators.ddm import Ddm, DdmNetworks
    from ddm_core.obfuscators.external import load_external
    from ddm_core.obfuscators.k_same import KSame, load_reference

    match description.params:
        case NoneParams():
            return classical.Identity()
        case MosaicParams(block=block):
            return classical.Mosaic(block)
        case BlurParams(kernel=kernel):
            return classical.Blur(kernel)
        case P3Params(threshold=threshold, quality=quality):
            return classical.P3(threshold, quality)
        case PixelPermutationParams(seed=seed):
            return permutation.PixelPermutation(seed)
        case BlockPermutationParams(block=block, seed=seed):
            return permutation.BlockPermutation(block, seed)
        case LearnableEncryptionParams(block=block, seed=seed):
            return permutation.LearnableEncryption(block, seed)
        case KSameParams(k=k):
            return KSame(k, load_reference(folder / WEIGHTS))
        case ExternalParams(uri=uri):
            return load_external(uri)
    networks = _load_networks(description, folder, device)
    assert isinstance(networks, DdmNetworks)
    return Ddm(networks)


def _load_keyed(  # noqa: PLR0911 - a table
    description: Description, folder: Path, device: str, key: bytes
) -> Obfuscator:
    from ddm_core.obfuscators.block_scrambling import BlockScrambling
    from ddm_core.obfuscators.classical import Blur
    from ddm_core.obfuscators.differential_privacy import DpBlur, DpPix
    from ddm_core.obfuscators.external import load_external
    from ddm_core.obfuscators.keyed_ddm import KeyedDdm
    from ddm_core.obfuscators.keyed_networks import KeyedNetworks
    from ddm_core.obfuscators.stream_cipher import AddmodCipher, XorCipher

    match description.params:
        case ExternalParams(uri=uri):
            return load_external(uri, master_key=key)
        case BlockScramblingParams(block=block):
            return BlockScrambling(block, key)
        case XorCipherParams():
            return XorCipher(key)
        case AddmodCipherParams():
            return AddmodCipher(key)
        case DpPixParams(block=block, neighbourhood=neighbourhood, epsilon=epsilon):
            return DpPix(block, neighbourhood, epsilon, key)
        case DpBlurParams(block=block, neighbourhood=neighbourhood, epsilon=epsilon, kernel=kernel):
            return DpBlur(DpPix(block, neighbourhood, epsilon, key), Blur(kernel))
    networks = _load_networks(description, folder, device)
    assert isinstance(networks, KeyedNetworks)
    return KeyedDdm(networks, key, description.image_size)


def _load_networks(description: Description, folder: Path, device: str) -> nn.Module:
    from ddm_core.checkpoints import WEIGHTS, load_weights

    networks = build_networks(description)
    load_weights(networks, folder / WEIGHTS)
    return networks.to(device).eval().requires_grad_(False)

"""An obfuscator as a folder: obfuscator.json (method, settings, image shape) and weights.safetensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_core.errors import DdmError
from ddm_core.params import (
    BlurParams,
    DdmParams,
    KeyedDdmParams,
    MosaicParams,
    NoneParams,
    ObfuscatorParams,
    P3Params,
    parse_obfuscator,
)

if TYPE_CHECKING:
    from torch import nn

    from ddm_core.obfuscators.protocol import Obfuscator

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Description:
    """What obfuscator.json says: the settings, and the images [channels, image_size, image_size]."""

    params: ObfuscatorParams
    channels: int
    image_size: int

    @property
    def keyed(self) -> bool:
        """Whether a master key is needed."""
        return self.params.keyed

    @property
    def decrypts(self) -> bool:
        """Whether the receiver can restore the photo."""
        return self.params.decrypts

    @property
    def hidden_size(self) -> int:
        """Side in pixels of the obfuscated images; keyed DDM pads photos to whole cells."""
        from ddm_core.obfuscators.keyed_ddm import padded

        return padded(self.image_size) if isinstance(self.params, KeyedDdmParams) else self.image_size


def save_obfuscator(folder: Path, description: Description, networks: nn.Module | None = None) -> None:
    """Write the folder's files; the caller makes the folder appear at once (files.atomic_directory)."""
    from ddm_core.checkpoints import CONFIGURATION, WEIGHTS, save_weights
    from ddm_core.files import write_json

    configuration: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "channels": description.channels,
        "image_size": description.image_size,
        "params": dataclasses.asdict(description.params),
    }
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
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise DdmError(f"{path}: format version {version}, this code reads {FORMAT_VERSION}; train it again")
    try:
        channels, image_size, params = int(content["channels"]), int(content["image_size"]), content["params"]
    except KeyError as error:
        raise DdmError(f"{path}: missing key {error}; train the model again") from None
    except (TypeError, ValueError) as error:
        raise DdmError(f"{path}: damaged ({error}); train the model again") from None
    return Description(parse_obfuscator(params, str(path)), channels, image_size)


def build_networks(description: Description) -> nn.Module:
    """Return the untrained networks of a learned method, weights from torch's global generator."""
    from ddm_core.obfuscators.ddm import DdmNetworks
    from ddm_core.obfuscators.keyed_ddm import KeyedDdmNetworks

    params = description.params
    if isinstance(params, KeyedDdmParams):
        return KeyedDdmNetworks(description.channels, params)
    if isinstance(params, DdmParams):
        return DdmNetworks(description.channels, params.width)
    raise DdmError(f"method {params.method} has no networks; learned methods: ddm, keyed_ddm")


def load_obfuscator(folder: Path, *, master_key: bytes | None = None, device: str = "cpu") -> Obfuscator:
    """Return the obfuscator that a folder describes, on `device`.

    Raises:
        DdmError: missing or damaged files, or a keyed method without a master key.
    """
    from ddm_core.checkpoints import WEIGHTS, load_weights
    from ddm_core.obfuscators.classical import P3, Blur, Identity, Mosaic
    from ddm_core.obfuscators.ddm import Ddm, DdmNetworks
    from ddm_core.obfuscators.keyed_ddm import KeyedDdm, KeyedDdmNetworks

    description = describe(folder)
    match description.params:
        case NoneParams():
            return Identity()
        case MosaicParams(block=block):
            return Mosaic(block)
        case BlurParams(kernel=kernel):
            return Blur(kernel)
        case P3Params(threshold=threshold, quality=quality):
            return P3(threshold, quality)
    networks = build_networks(description)
    load_weights(networks, folder / WEIGHTS)
    networks = networks.to(device).eval().requires_grad_(False)
    if isinstance(networks, DdmNetworks):
        return Ddm(networks)
    assert isinstance(networks, KeyedDdmNetworks)
    if master_key is None:
        raise DdmError(f"{folder}: a keyed model needs a master key; make one: ddm key new FILE")
    return KeyedDdm(networks, master_key, description.image_size)

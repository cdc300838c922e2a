"""Small real models and keys that the tests of photos share."""

import pytest
import torch
from started_networks import started_networks

from ddm_core.key_files import new_key_file, read_key_ring
from ddm_core.obfuscators.store import Description, save_obfuscator
from ddm_core.photos.model import load_model


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, keyed_ddm_params):
    """Keyed DDM in grey and in colour, as it starts: it already encrypts and decrypts.

    The convolutions are made noisy, so that a cell's result really depends on its neighbours.
    """
    root = tmp_path_factory.mktemp("models")
    folders = {}
    for name, channels in (("grey", 1), ("colour", 3)):
        description = Description(keyed_ddm_params, channels, 32)
        networks = started_networks(description)
        for layer in networks.modules():
            if isinstance(layer, torch.nn.Conv2d) and not layer.weight.any():
                torch.nn.init.normal_(layer.weight, std=0.05)
        folders[name] = root / name
        folders[name].mkdir()
        save_obfuscator(folders[name], description, networks)
    return folders


@pytest.fixture(scope="session")
def models(model_folders):
    return {name: load_model(folder) for name, folder in model_folders.items()}


@pytest.fixture(scope="session")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "my.key"
    new_key_file(path)
    return path


@pytest.fixture(scope="session")
def ring(key_file):
    return read_key_ring(key_file)


@pytest.fixture(scope="session")
def other_ring(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "other.key"
    new_key_file(path)
    return read_key_ring(path)

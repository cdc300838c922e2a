"""The networks as ONNX and torch.export files do what the trained networks do, and carry no code to load."""

import json
import zipfile
from pathlib import Path

import numpy
import onnxruntime
import pytest
import torch
from packaged_models import small_params

import ddm_core
from ddm_core.channel import round_to_8_bits
from ddm_core.keys import fresh_nonces, generate_key, haar_rotations
from ddm_core.learned_params import PhotoDdmParams
from ddm_core.obfuscators.ddm import Ddm
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.seeding import torch_generator
from ddm_core.serving.variants import HIDE, RESTORE, cell_sides, directions, write_variants

TOLERANCE = 1e-4
SHAPES = [(1, 4, 4), (3, 6, 16), (2, 1, 2)]  # batch, rows, columns of cells: none is the example of export
MODELS = [("keyed_ddm", 1), ("keyed_ddm", 3), ("ddm", 1), ("photo_ddm", 3)]


@pytest.fixture(scope="module", params=MODELS, ids=str)
def exported(request, tmp_path_factory):
    """Networks with every weight away from its start, and the folder of their variants."""
    method, channels = request.param
    torch.manual_seed(2)  # all four draw with contrast
    networks = build_networks(Description(small_params(method), channels, 32)).eval().requires_grad_(False)
    generator = torch_generator(0, "tests/variants")
    for weights in networks.parameters():
        weights.add_(torch.randn(weights.shape, generator=generator), alpha=0.02)
    folder = tmp_path_factory.mktemp("variants")
    write_variants(networks, channels, folder)
    return networks, channels, folder


def inputs(networks, channels, direction, shape):
    batch, rows, columns = shape
    generator, side = torch_generator(1, "tests/variants"), cell_sides(networks)[direction]
    images = round_to_8_bits(torch.rand(batch, channels, side * rows, side * columns, generator=generator))
    if not hasattr(networks, "grid"):
        return (images,)
    grid = networks.grid(images)._replace(rows=rows, columns=columns)
    return images, haar_rotations(generate_key(), fresh_nonces(batch), grid)


def run_onnx(file, *tensors):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    fed = dict(zip(names, (tensor.numpy() for tensor in tensors), strict=True))
    return torch.from_numpy(session.run(None, fed)[0])


def run_torch_export(file, *tensors):
    return torch.export.load(file).module()(*tensors)


@pytest.mark.parametrize("direction", [HIDE, RESTORE])
@pytest.mark.parametrize(("suffix", "run"), [("onnx", run_onnx), ("pt2", run_torch_export)])
def test_a_variant_equals_the_network_at_any_batch_and_size(exported, direction, suffix, run):
    networks, channels, folder = exported
    for shape in SHAPES:
        tensors = inputs(networks, channels, direction, shape)
        expected = directions(networks)[direction](*tensors)
        assert expected.std() > 0.01  # something is drawn
        found = run(folder / f"{direction}.{suffix}", *tensors)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("direction", [HIDE, RESTORE])
def test_an_onnx_file_says_how_many_octonions_its_rotation_has(exported, direction):
    networks, _, folder = exported
    session = onnxruntime.InferenceSession(folder / f"{direction}.onnx", providers=["CPUExecutionProvider"])
    keyed = isinstance(networks, KeyedNetworks)
    expected = {"octonions": str(networks.params.octonions)} if keyed else {}
    assert session.get_modelmeta().custom_metadata_map == expected


def test_hiding_differs_from_the_obfuscator_by_the_rounding_alone(exported):
    networks, channels, _ = exported
    tensors = inputs(networks, channels, HIDE, SHAPES[1])
    assert torch.equal(round_to_8_bits(directions(networks)[HIDE](*tensors)), networks.hide(*tensors))


def test_a_photo_hidden_by_onnx_is_restored_by_the_obfuscator_and_the_reverse(exported):
    networks, channels, folder = exported
    photos, *_ = inputs(networks, channels, HIDE, SHAPES[1])
    key, nonces = generate_key(), fresh_nonces(len(photos))
    ours, rotation = Ddm(networks), []
    if hasattr(networks, "grid"):
        ours, rotation = KeyedDdm(networks, key), [haar_rotations(key, nonces, networks.grid(photos))]
    hidden = round_to_8_bits(run_onnx(folder / "hide.onnx", photos, *rotation))
    levels = ((hidden - ours.encrypt(photos, nonces)) * 255).round().abs()
    assert levels.max() <= 1
    assert (levels > 0).float().mean() < 0.01
    restored = run_onnx(folder / "restore.onnx", hidden, *rotation)
    assert (restored - ours.decrypt(hidden, nonces)).abs().max() < TOLERANCE


def cell_side(networks, direction):
    """Pixels a side of a cell: photo_ddm draws 8 pixels of a photo in 12 of the hidden picture."""
    if not isinstance(networks, KeyedNetworks):
        return 4
    if isinstance(networks.params, PhotoDdmParams):
        return {HIDE: 8, RESTORE: 12}[direction]
    return 8


def test_onnx_names_its_inputs_and_leaves_batch_and_size_free(exported):
    networks, channels, folder = exported
    keyed = hasattr(networks, "grid")
    for direction, image, output in ((HIDE, "photo", "hidden"), (RESTORE, "hidden", "photo")):
        session = onnxruntime.InferenceSession(folder / f"{direction}.onnx")
        shapes = {value.name: value.shape for value in session.get_inputs()}
        assert list(shapes) == ([image, "rotation"] if keyed else [image])
        side = cell_side(networks, direction)
        assert shapes[image] == ["batch", channels, f"{side}*rows", f"{side}*columns"]
        if keyed:
            count = networks.params.quaternions
            assert shapes["rotation"] == ["batch", count, 4, "rows", "columns"]
        assert [value.name for value in session.get_outputs()] == [output]


def test_variants_hold_no_pickle(exported):
    for file in exported[2].glob("*.pt2"):
        with zipfile.ZipFile(file) as archive:
            members = {Path(name).name: archive.read(name) for name in archive.namelist()}
        assert members["model.pt"] == b""  # the example that export followed is left out
        assert not [name for name in members if name.endswith(".pkl")]
        for name in ("model_weights_config.json", "model_constants_config.json"):
            assert not any(entry["use_pickle"] for entry in json.loads(members[name])["config"].values())


def test_variants_do_not_tell_where_they_were_made(exported):
    places = {str(Path(package.__file__).parents[1]) for package in (ddm_core, torch, numpy)}
    for file in exported[2].iterdir():
        content = file.read_bytes()
        assert not [place for place in places if place.encode() in content], file.name


def test_the_same_networks_give_the_same_onnx_file(exported, tmp_path):
    networks, channels, folder = exported
    write_variants(networks, channels, tmp_path)
    for direction in (HIDE, RESTORE):
        name = f"{direction}.onnx"
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()

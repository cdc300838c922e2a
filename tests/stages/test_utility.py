"""Stage utility: what the receiver gets after each of the channels that the settings list."""

import copy
import dataclasses
import io
import json
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from ddm_core.arguments import from_arguments, to_arguments
from ddm_core.channel_names import LAB_CHANNELS
from ddm_core.data.shards import load_photos
from ddm_core.errors import DdmError
from ddm_core.evaluation import as_float
from ddm_core.exact_channels import EXACT_CHANNELS
from ddm_core.metrics import wilson_interval
from ddm_core.obfuscators.store import load_obfuscator
from ddm_core.params import (
    MosaicParams,
    NoneParams,
    RecogniseParams,
    UtilityParams,
    load,
    parse_params,
    to_dict,
)
from ddm_core.results import CHANNELS, PICTURES, RESULT, UtilityResult, read_result
from ddm_core.stages import prepare, recognise, train, utility
from ddm_core.stages.recognise import load_recogniser

PARAMS = Path(__file__).parents[2] / "params.yaml"
MEASURING = UtilityParams(encryptions_per_photo=2, threads=1, seed=0)
SUBSAMPLING_ALONE = tuple(name for name in LAB_CHANNELS if name.endswith("_444"))


class World:
    """A prepared data set and its recogniser, with the obfuscators that tests ask for."""

    def __init__(self, folder, photo_folder, params):
        self.folder = folder
        self.places = {"prepared": folder / "prepared", "recogniser": folder / "recogniser"}
        prepare.run(params, raw=photo_folder, prepared=self.places["prepared"])
        learning = RecogniseParams(epochs=8, batch_size=8, learning_rate=2e-3, threads=1, seed=0)
        recognise.run(learning, **self.places)

    def model(self, settings, name):
        model = self.folder / name
        if not model.exists():
            places = {"prepared": self.places["prepared"], "history": self.folder / "history" / name}
            train.run(settings, name=name, model=model, tracked=False, **places)
        return model

    def measure(self, result, channels, settings=NoneParams(method="none")):  # noqa: B008 - frozen
        params = dataclasses.replace(MEASURING, channels=channels)
        return utility.run(params, **self.places, model=self.model(settings, settings.method), result=result)


@pytest.fixture(scope="module")
def grey(photo_folder, prepare_params, tmp_path_factory):
    """Grey photos of 32 pixels and a recogniser of their people."""
    return World(tmp_path_factory.mktemp("grey"), photo_folder, prepare_params)


@pytest.fixture(scope="module")
def colour(photo_folder, prepare_params, tmp_path_factory):
    """The same in RGB."""
    params = dataclasses.replace(prepare_params, channels=3)
    return World(tmp_path_factory.mktemp("colour"), photo_folder, params)


@pytest.fixture(params=["grey", "colour"])
def world(request):
    return request.getfixturevalue(request.param)


def rows_of(folder):
    """How many rows of pictures there are: 32 pixels enlarged to 96, and a gap of 4 between them."""
    return (Image.open(folder / PICTURES).height - 4) // 100


def test_the_channels_of_the_settings_are_measured_in_their_order_and_no_other(world, tmp_path):
    listed = ("photo_site", "png", "crop_pad")
    measured = world.measure(tmp_path / "result", listed)
    assert tuple(measured.channels) == listed
    assert read_result(tmp_path / "result" / RESULT, UtilityResult) == measured


def test_jpeg_with_whole_chroma_is_measured_for_colour(colour, tmp_path):
    assert tuple(colour.measure(tmp_path / "result", LAB_CHANNELS).channels) == LAB_CHANNELS


def test_jpeg_with_whole_chroma_is_left_out_for_grey(grey, tmp_path):
    measured = grey.measure(tmp_path / "result", LAB_CHANNELS)
    assert set(LAB_CHANNELS) - set(measured.channels) == set(SUBSAMPLING_ALONE)


def test_nothing_is_written_where_no_listed_channel_makes_sense(grey, tmp_path):
    with pytest.raises(DdmError) as caught:
        grey.measure(tmp_path / "result", ("jpeg75_444", "jpeg30_444"))
    expected = "utility: channels: grey photos have no chroma for jpeg75_444, jpeg30_444 to keep; add jpeg75"
    assert str(caught.value) == expected
    assert not (tmp_path / "result").exists()


def test_a_channels_figures_do_not_depend_on_what_else_is_measured(world, tmp_path):
    every = world.measure(tmp_path / "every", LAB_CHANNELS)
    main = world.measure(tmp_path / "main", CHANNELS)
    assert main.channels == {name: every.channels[name] for name in CHANNELS}


@pytest.mark.parametrize("name", ["webp", "resize25", "crop_pad", "photo_site"])
def test_psnr_and_recognition_are_those_of_what_the_receiver_holds(world, tmp_path, name):
    mosaic = MosaicParams(method="mosaic", block=2)
    measured = world.measure(tmp_path / "result", (name,), mosaic).channels[name]
    photos = load_photos(world.places["prepared"], split="test")
    originals = as_float(photos.images)
    hidden = load_obfuscator(world.model(mosaic, "mosaic"), master_key=None, device="cpu").encrypt(
        originals, [b""] * len(originals)
    )
    received = EXACT_CHANNELS[name](hidden)
    errors = ((received - originals).numpy().astype(float) ** 2).mean(axis=(1, 2, 3))
    named = load_recogniser(world.places["recogniser"], "cpu").recognise(received)
    right = int((named == photos.labels).sum())
    assert measured.psnr_db == pytest.approx((-10 * numpy.log10(errors)).mean(), abs=1e-3)
    assert measured.recognition_top1 == right / len(originals)
    assert measured.recognition_ci95 == wilson_interval(right, len(originals))
    assert measured.n == len(originals)


def test_a_keyed_model_is_decrypted_after_every_channel(grey, keyed_ddm_params, tmp_path):
    measured = grey.measure(tmp_path / "result", LAB_CHANNELS, keyed_ddm_params)
    assert measured.decrypts
    assert set(measured.channels) == set(LAB_CHANNELS) - set(SUBSAMPLING_ALONE)
    assert all(8 < cell.psnr_db < 60 for cell in measured.channels.values())
    assert {cell.n for cell in measured.channels.values()} == {2 * 5}  # five test photos, encrypted twice


@pytest.mark.parametrize(
    ("channels", "rows"),
    [
        (CHANNELS, 6),  # photo, obfuscated, decrypted, wrong key, JPEG 75, half size
        ((*CHANNELS, "photo_site"), 7),
        (("png",), 4),
        (("webp",), 3),
    ],
)
def test_pictures_show_the_channels_that_were_measured(grey, keyed_ddm_params, tmp_path, channels, rows):
    grey.measure(tmp_path / "result", channels, keyed_ddm_params)
    assert rows_of(tmp_path / "result") == rows


def test_pictures_of_what_cannot_be_decrypted_are_the_photo_and_the_obfuscated(grey, tmp_path):
    grey.measure(tmp_path / "result", CHANNELS)
    assert rows_of(tmp_path / "result") == 2
    assert Image.open(io.BytesIO((tmp_path / "result" / PICTURES).read_bytes())).format == "PNG"


# Settings


def with_channels(channels):
    content = copy.deepcopy(yaml.safe_load(PARAMS.read_text(encoding="utf-8")))
    content["utility"]["channels"] = channels
    return content


def test_without_a_list_the_main_pipelines_channels_are_measured():
    assert load(PARAMS).utility.channels == CHANNELS


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        (["png", "jpg75"], "unknown channel 'jpg75'; did you mean 'jpeg75'?"),
        (["jpeg75-444"], "unknown channel 'jpeg75-444'; did you mean 'jpeg75_444'?"),
        (["photosite"], "unknown channel 'photosite'; did you mean 'photo_site'?"),
        (["avif\n"], r"unknown channel 'avif\n'; known: crop_pad, jpeg30, "),
        ([], "channels is empty; name at least one, for example png"),
        (["png", "webp", "png"], "channels names png twice; once is enough"),
        ("png", "channels: expected a list, got 'png'"),
        ([75], "channels[0]: expected a text, got 75"),
    ],
)
def test_a_list_that_cannot_be_measured_is_refused_in_one_line(channels, told):
    with pytest.raises(DdmError) as caught:
        parse_params(with_channels(channels), "params.yaml")
    assert str(caught.value).startswith("params.yaml: utility: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_survives_params_yaml_and_the_way_through_kubeflow():
    params = parse_params(with_channels(list(LAB_CHANNELS)), "params.yaml")
    assert params.utility.channels == LAB_CHANNELS
    assert parse_params(yaml.safe_load(yaml.safe_dump(to_dict(params))), "params.yaml") == params
    assert from_arguments(json.loads(json.dumps(to_arguments(params)))) == params

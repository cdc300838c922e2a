"""params.yaml is read strictly: what does not fit is one line that says what, where and how to mend it."""

import copy
import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ddm_core import params as module
from ddm_core.errors import DdmError
from ddm_core.params import METHODS, DdmParams, KeyedDdmParams, load, parse_obfuscator, to_dict

PARAMS = Path(__file__).parents[1] / "params.yaml"
CONTENT = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
SECTIONS = [field.name for field in dataclasses.fields(module.Params)]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "params.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


def changed(path, value):
    content = copy.deepcopy(CONTENT)
    *sections, key = path.split("/")
    place = content
    for section in sections:
        place = place[section]
    place[key] = value
    return content


def message(path):
    with pytest.raises(DdmError) as caught:
        load(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "params.yaml" in text
    return text


# What is accepted


def test_the_projects_own_params_are_valid_and_survive_a_round_trip(write):
    params = load(PARAMS)
    assert load(write(to_dict(params))) == params
    assert set(CONTENT) == set(SECTIONS)


def test_every_method_of_the_train_section_gets_its_own_dataclass():
    for name, settings_ in load(PARAMS).train.items():
        assert type(settings_) is METHODS[CONTENT["train"][name]["method"]]


def test_merged_settings_are_whole():
    """ddm_control is written as `<<: *ddm` with one difference."""
    train = load(PARAMS).train
    assert isinstance(train["ddm_control"], DdmParams)
    assert train["ddm_control"] == dataclasses.replace(train["ddm"], discrepancy_weight=0.0)


def test_whole_floats_are_taken_for_integers_and_integers_for_floats(write):
    """A pipeline backend hands every number of a dictionary back as a float."""
    content = changed("train/keyed_ddm/width", 192.0)
    content["train"]["keyed_ddm"]["reconstruction_weight"] = 10
    content["prepare"]["channels"] = 1.0
    params = load(write(content))
    assert params == load(PARAMS)
    assert isinstance(params.train["keyed_ddm"], KeyedDdmParams)
    assert type(params.train["keyed_ddm"].width) is int
    assert type(params.train["keyed_ddm"].reconstruction_weight) is float
    assert type(params.prepare.channels) is int


# Names


@pytest.mark.parametrize(
    ("place", "misspelt", "meant"),
    [
        ("", "utilty", "utility"),
        ("fetch", "sorce", "source"),
        ("prepare", "image_sise", "image_size"),
        ("train/mosaic8", "blok", "block"),
        ("train/blur31", "kernal", "kernel"),
        ("train/p3_10", "treshold", "threshold"),
        ("train/ddm", "learning_rat", "learning_rate"),
        ("train/keyed_ddm", "quaternion", "quaternions"),
        ("recognise", "epoch", "epochs"),
        ("attack", "encryptions_per_foto", "encryptions_per_photo"),
        ("utility", "encryption_per_photo", "encryptions_per_photo"),
        ("report", "headlines", "headline"),
        ("register", "gates", "gate"),
        ("register/gate", "chanels", "channels"),
        ("register/gate/channels/png", "min_psnr_dB", "min_psnr_db"),
    ],
)
def test_a_misspelt_key_is_named_with_the_one_that_was_meant(write, place, misspelt, meant):
    text = message(write(changed(f"{place}/{misspelt}".lstrip("/"), 1)))
    assert text.endswith(f"{place.replace('/', ': ')}: unknown key '{misspelt}'; did you mean '{meant}'?")


def test_a_key_like_no_other_is_answered_with_the_known_ones(write):
    text = message(write(changed("fetch/zzz", 1)))
    assert "unknown key 'zzz'; known: corrections, digest, exclude_people, lists, margin, source, uri" in text


@pytest.mark.parametrize(
    "place", ["prepare/seed", "train/keyed_ddm/blocks", "register/gate/channels/png/min_psnr_db", "attack"]
)
def test_a_missing_key_is_named_with_its_place(write, place):
    content = copy.deepcopy(CONTENT)
    *sections, key = place.split("/")
    section = content
    for name in sections:
        section = section[name]
    del section[key]
    assert f"{': '.join(['params.yaml', *sections])}: missing key '{key}'; add it" in message(write(content))


def test_an_unknown_method_is_named_with_the_nearest(write):
    text = message(write(changed("train/keyed_ddm/method", "keyed-ddm")))
    assert text.endswith("train: keyed_ddm: unknown method 'keyed-ddm'; did you mean 'keyed_ddm'?")


@pytest.mark.parametrize("settings_", [{"block": 8}, "mosaic", None, []])
def test_an_obfuscator_without_a_method_is_refused(write, settings_):
    assert "expected a mapping with a key 'method'" in message(write(changed("train/mosaic8", settings_)))


def test_a_headline_that_is_no_obfuscator_is_answered_with_the_nearest(write):
    text = message(write(changed("report/headline", "keyed_dmm")))
    assert text.endswith("report: headline: 'keyed_dmm' is no obfuscator of train; did you mean 'keyed_ddm'?")


def test_registering_what_is_not_trained_is_refused(write):
    text = message(write(changed("register/models", {"dmm": "ddm"})))
    assert "register: models: 'dmm' is no obfuscator of train" in text


@pytest.mark.parametrize("name", ["a/b", "..", "", "with space"])
def test_an_obfuscator_name_that_makes_no_folder_name_is_refused(write, name):
    content = copy.deepcopy(CONTENT)
    content["train"][name] = {"method": "none"}
    assert "is no name" in message(write(content))


# Types


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("prepare/image_size", "64"),
        ("prepare/image_size", 64.5),
        ("prepare/image_size", True),
        ("prepare/image_size", None),
        ("prepare/image_size", [64]),
        ("prepare/channels", True),
        ("prepare/channels", "1"),
        ("prepare/channels", [1]),
        ("prepare/square", "round"),
        ("fetch/source", "disk"),
        ("fetch/uri", 3),
        ("fetch/digest", 3),
        ("train/keyed_ddm/width", 3.5),
        ("train/keyed_ddm/learning_rate", "fast"),
        ("train/keyed_ddm/learning_rate", False),
        ("train/keyed_ddm/precision", "fp64"),
        ("train/keyed_ddm/steps", float("inf")),
        ("register/gate/attackers", "clean"),
        ("register/gate/attackers", [1]),
        ("register/models", ["ddm"]),
        ("recognise", 3),
        ("train", []),
    ],
)
def test_a_value_of_the_wrong_type_is_shown_with_its_place(write, place, value):
    text = message(write(changed(place, value)))
    assert f"params.yaml: {place.replace('/', ': ')}" in text
    assert "expected" in text
    assert text.endswith(f"got {value!r}")


def test_a_number_that_yaml_reads_as_text_is_explained(write):
    text = PARAMS.read_text(encoding="utf-8").replace("learning_rate: 2.0e-3", "learning_rate: 2e-3")
    assert "learning_rate: expected a number (written like 0.1 or 2.0e-3), got '2e-3'" in message(write(text))


# Ranges


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("fetch/source", "folder"),
        ("fetch/uri", "https://example.org/photos"),
        ("fetch/uri", "s3://ab/photos"),
        ("fetch/digest", "sha256:" + 64 * "0"),
        ("fetch/digest", 63 * "0"),
        ("fetch/digest", 64 * "A"),
        ("fetch/digest", ""),
        ("prepare/image_size", 15),
        ("prepare/image_size", 0),
        ("prepare/image_size", 2048),
        ("prepare/test_fraction", 0.0),
        ("prepare/identity_test_fraction", 1.0),
        ("prepare/test_fraction", float("nan")),
        ("prepare/max_bad_fraction", 1.5),
        ("prepare/shard_megabytes", 0),
        ("train/mosaic8/block", 0),
        ("train/blur31/kernel", 30),
        ("train/blur31/kernel", 1),
        ("train/p3_10/threshold", 0),
        ("train/p3_10/quality", 101),
        ("train/ddm/steps", 0),
        ("train/ddm/batch_size", 0),
        ("train/ddm/threads", 0),
        ("train/ddm/width", 0),
        ("train/ddm/learning_rate", 0.0),
        ("train/ddm/learning_rate", float("nan")),
        ("train/ddm/learning_rate", float("inf")),
        ("train/ddm/warmup_steps", 1700),
        ("train/ddm/warmup_steps", -1),
        ("train/ddm/discrepancy_weight", -0.1),
        ("train/ddm/reconstruction_weight", 0.0),
        ("train/keyed_ddm/quaternions", 4),
        ("train/keyed_ddm/quaternions", 17),
        ("train/keyed_ddm/linear_learning_rate", 0.0),
        ("train/keyed_ddm/width", 0),
        ("train/keyed_ddm/blocks", -1),
        ("train/keyed_ddm/jpeg_quality_min", 98),
        ("train/keyed_ddm/jpeg_quality_max", 101),
        ("train/keyed_ddm/jpeg_probability", 1.1),
        ("train/keyed_ddm/resize_probability", -0.1),
        ("train/keyed_ddm/resize_scale_min", 0.2),
        ("train/keyed_ddm/resize_min_share", 1.1),
        ("train/keyed_ddm/noise_deviation", -0.1),
        ("recognise/epochs", 0),
        ("recognise/batch_size", 0),
        ("recognise/learning_rate", -1.0),
        ("recognise/threads", 0),
        ("attack/epochs", 0),
        ("attack/batch_size", -8),
        ("attack/learning_rate", 0.0),
        ("attack/inversion_steps", 0),
        ("attack/inversion_learning_rate", 0.0),
        ("attack/encryptions_per_photo", 0),
        ("attack/threads", 0),
        ("utility/encryptions_per_photo", 0),
        ("utility/threads", 0),
        ("register/gate/attackers", {}),
        ("register/gate/attackers/clean/max_top1_upper95", 8.0),
        ("register/gate/max_worst_case_top1_upper95", 8.0),
        ("register/gate/channels", {}),
        ("register/gate/channels/png/min_recognition_top1", 0.0),
        ("register/gate/champion/min_psnr_gain_db", -0.1),
        ("register/gate/champion/max_top1_rise", 0.0),
        ("register/gate/champion/confidence", 1.0),
        ("register/models/ddm", "a/b"),
        ("register/models/ddm", "keyed_ddm"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_place(write, place, value):
    *sections, key = place.split("/")
    if "models" in sections:
        sections, key = sections[:-1], "models"
    text = message(write(changed(place, value)))
    assert f"{': '.join(['params.yaml', *sections])}: " in text
    assert key in text or "uri" in text


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("register/gate/attackers/retraind", "attackers: 'retraind' is unknown; did you mean 'retrained'?"),
        ("register/gate/channels/pngs", "channels: 'pngs' is unknown; did you mean 'png'?"),
        ("register/gate/channels/webp", "'webp' is not measured; add it to utility: channels"),
        ("register/models/ddm", "names that end in '.moves' record what became of a model"),
    ],
)
def test_a_gate_that_nothing_could_pass_is_refused_at_once(write, place, words):
    values = {"attackers": {"max_top1_upper95": 0.1}, "models": "ddm.moves"}
    value = values.get(place.split("/")[-2], {"min_psnr_db": 20.0, "min_recognition_top1": 0.5})
    assert words in message(write(changed(place, value)))


# Files


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("fetch: {source: orl", "not valid YAML"),
        ("fetch:\n\tsource: orl", "not valid YAML"),
        ("fetch: 2024-13-45", "not valid YAML"),
        ("- 1\n- 2", "expected a mapping"),
        ("", "expected a mapping"),
        ("? [1, 2]\n: 3", "not valid YAML"),
        ('"a\\nb": 1', "unknown key 'a b'"),
        ("fetch: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_params_file_is_one_line(write, content, reason):
    assert reason in message(write(content))


def test_bytes_that_are_not_utf8_are_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes("fetch: {source: 'Zoë'}".encode("latin-1"))
    assert "not valid YAML" in message(path)


def test_a_missing_or_unreadable_file_says_what_to_do(tmp_path):
    assert "not found; run from the project folder or pass --params" in message(tmp_path / "params.yaml")
    (tmp_path / "folder" / "params.yaml").mkdir(parents=True)
    assert "cannot be read" in message(tmp_path / "folder" / "params.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(CONTENT["train"])), st.data())
def test_whatever_stands_in_a_setting_is_read_or_refused_in_one_line(name, data):
    settings_ = dict(CONTENT["train"][name])
    key = data.draw(st.sampled_from(sorted(settings_)) | st.text(max_size=8))
    settings_[key] = data.draw(PLAIN)
    try:
        read = parse_obfuscator(settings_, f"train: {name}")
    except DdmError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert parse_obfuscator(to_dict(read), "again") == read

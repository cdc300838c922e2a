"""What a space file may say: every mistake is one line that names it and the way out."""

import pytest
import yaml
from small_sweep import CHECKOUT, small_params, small_space, write_yaml

from ddm_core.errors import DdmError
from ddm_core.params import load, parse_params
from ddm_core.sweep.space import Choices, InvalidSettingsError, Pruning, Range, load_space, with_settings

PARAMS = parse_params(small_params(), "small_params")


def read(tmp_path, obfuscator="keyed_ddm", **changes):
    return load_space(write_yaml(tmp_path / "space.yaml", small_space(**changes)), obfuscator, PARAMS)


def refusal(tmp_path, obfuscator="keyed_ddm", **changes):
    with pytest.raises(DdmError) as refused:
        read(tmp_path, obfuscator, **changes)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_space_is_ranges_and_choices_of_the_obfuscators_own_settings(tmp_path):
    settings = {
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "quaternions": {"low": 6, "high": 8},
        "precision": {"choices": ["fp32", "bf16"]},
    }
    space = read(tmp_path, settings=settings, pruning={"startup_trials": 2})
    assert space.settings == {
        "learning_rate": Range(1e-3, 1e-2, log=True),
        "quaternions": Range(6, 8),
        "precision": Choices(("fp32", "bf16")),
    }
    assert space.pruning == Pruning(startup_trials=2)


def test_the_projects_own_space_fits_its_params():
    space = load_space(CHECKOUT / "sweeps/keyed_ddm.yaml", "keyed_ddm", load(CHECKOUT / "params.yaml"))
    assert space.pruning is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lerning_rate": {"low": 0.1, "high": 0.2}}, "of keyed_ddm; did you mean 'learning_rate'?"),
        ({"block": {"low": 1, "high": 2}}, "did you mean 'blocks'?"),
        ({"seed": {"low": 0, "high": 9}}, "'seed' is nothing to choose by"),
        ({"method": {"choices": ["ddm", "keyed_ddm"]}}, "'method' is nothing to choose by"),
        ({"learning_rate": {"low": 0.2, "high": 0.1}}, "low is 0.2 and high 0.1; low must be below high"),
        ({"learning_rate": {"low": 0.0, "high": 0.1, "log": True}}, "with log: true it must be above 0"),
        ({"learning_rate": {"low": 0.0, "high": 0.1}}, "learning_rate is 0.0; it must be above 0"),
        ({"learning_rate": {"low": 0.1, "high": 0.2, "lag": True}}, "unknown key 'lag'; did you mean 'log'?"),
        ({"learning_rate": {"low": "1e-3", "high": 0.1}}, "expected a number (written like 0.1 or 2.0e-3)"),
        ({"width": {"low": 8.5, "high": 16}}, "width: expected a whole number, got 8.5"),
        ({"precision": {"choices": ["fp32", "bf61"]}}, "expected one of fp32, bf16, fp16, got 'bf61'"),
        ({"precision": {"low": 1, "high": 2}}, "precision: takes no range; give choices: [A, B]"),
        ({"batch_size": {"choices": [8]}}, "fewer than two values"),
        ({"batch_size": {"choices": [8, 8]}}, "names a value twice"),
        ({"batch_size": {"choices": 8}}, "expected a list of numbers or words, got 8"),
        ({"batch_size": {"choices": [8, 16], "log": True}}, "'log' has no meaning beside choices"),
        ({"batch_size": [8, 16]}, "batch_size: expected a mapping"),
        ({}, "settings is empty"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_mistaken_setting_is_named_with_the_way_out(tmp_path, settings, words):
    said = refusal(tmp_path, settings=settings)
    assert "space.yaml" in said
    assert words in said


def test_pruning_is_refused_where_psnr_in_training_means_another_thing_each_time(tmp_path):
    settings = {"jpeg_probability": {"low": 0.1, "high": 0.3}}
    assert "jpeg_probability" in refusal(tmp_path, settings=settings, pruning={})
    assert read(tmp_path, settings=settings).pruning is None


def test_a_misspelt_key_of_the_file_is_named_with_the_right_one(tmp_path):
    assert "'trails'; did you mean 'trials'?" in refusal(tmp_path, trails=3)


def test_an_obfuscator_without_training_or_of_an_unknown_name_is_refused(tmp_path):
    assert "'mosaic8' has nothing to learn" in refusal(tmp_path, "mosaic8")
    assert "'keyed_dmd'" in refusal(tmp_path, "keyed_dmd")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "space.yaml").write_text("")
    with pytest.raises(DdmError, match="expected a mapping"):
        load_space(tmp_path / "space.yaml", "keyed_ddm", PARAMS)


def test_values_that_do_not_go_together_are_told_from_mistakes():
    base = PARAMS.train["keyed_ddm"]
    assert with_settings(base, {"steps": 7, "warmup_steps": 5}).steps == 7
    with pytest.raises(InvalidSettingsError, match="warmup_steps is 5; below steps"):
        with_settings(base, {"steps": 4, "warmup_steps": 5})


def test_the_file_is_plain_yaml(tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(small_space()).replace("trials: 2", "trials: ["))
    with pytest.raises(DdmError, match="not valid YAML"):
        load_space(tmp_path / "space.yaml", "keyed_ddm", PARAMS)

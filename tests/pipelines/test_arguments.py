"""A run's settings: params.yaml, a file of changes, and single settings of the command line."""

from pathlib import Path

import pytest
import yaml

from ddm_core.arguments import from_arguments, to_arguments
from ddm_core.errors import DdmError
from ddm_core.params import load
from pipelines.arguments import load_params
from pipelines.cli import SMALL

CHECKOUT = Path(__file__).parents[2]
PARAMS_FILE = CHECKOUT / "params.yaml"


def test_without_changes_they_are_params_yaml():
    assert load_params(PARAMS_FILE) == load(PARAMS_FILE)


def test_a_setting_changes_one_value():
    params = load_params(PARAMS_FILE, settings=["train.keyed_ddm.steps=2000", "prepare.square=pad"])
    assert params.train["keyed_ddm"].steps == 2000
    assert params.prepare.square == "pad"
    assert params.train["ddm"] == load(PARAMS_FILE).train["ddm"]


def test_a_setting_counts_more_than_the_file_of_changes(tmp_path):
    changes = tmp_path / "changes.yaml"
    changes.write_text("attack: {epochs: 3, batch_size: 7}")
    params = load_params(PARAMS_FILE, changes, ["attack.epochs=5"])
    assert (params.attack.epochs, params.attack.batch_size) == (5, 7)
    assert params.attack.seed == load(PARAMS_FILE).attack.seed


def test_null_leaves_an_obfuscator_out(tmp_path):
    changes = tmp_path / "changes.yaml"
    changes.write_text("train: {mosaic8: null}")
    assert set(load(PARAMS_FILE).train) - set(load_params(PARAMS_FILE, changes).train) == {"mosaic8"}


def test_settings_that_need_each_other_come_in_any_order():
    settings = ["fetch.digest=null", "fetch.source=folder", "fetch.uri=photos"]
    assert load_params(PARAMS_FILE, settings=settings).fetch.uri == "photos"
    assert load_params(PARAMS_FILE, settings=settings[::-1]).fetch.uri == "photos"


def test_an_error_does_not_repeat_the_value_of_a_setting():
    with pytest.raises(DdmError) as caught:
        load_params(PARAMS_FILE, settings=["fetch.uri=s3://anna:hunter2@host", "fetch.source=folder"])
    assert "hunter2" not in str(caught.value)


def test_a_new_obfuscator_names_its_method():
    params = load_params(PARAMS_FILE, settings=["train.mosaic4={method: mosaic, block: 4}"])
    assert params.train["mosaic4"].block == 4


def test_the_small_settings_change_the_amount_of_work_alone():
    full, small = load(PARAMS_FILE), load_params(PARAMS_FILE, SMALL)
    assert list(small.train) == list(full.train)
    assert (small.fetch, small.prepare, small.register) == (full.fetch, full.prepare, full.register)
    assert all(getattr(settings, "threads", 1) == 1 for settings in small.train.values())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.keyed_ddm.stepz=3", "unknown key 'stepz'; did you mean 'steps'?"),
        ("train.keyed_dmd.steps=3", "'keyed_dmd' is no obfuscator of train; did you mean 'keyed_ddm'?"),
        ("atack.epochs=3", "unknown key 'atack'; did you mean 'attack'?"),
        ("attack.epochs=many", "attack: epochs: expected a whole number, got 'many'"),
        ("attack.epochs=0", "epochs is 0; it must be above 0"),
        ("attack.epochs", "expected SECTION.KEY=VALUE"),
        ("attack..epochs=3", "expected SECTION.KEY=VALUE"),
        ("attack.epochs=[3", "its value is no YAML"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(setting, message):
    with pytest.raises(DdmError) as caught:
        load_params(PARAMS_FILE, settings=[setting])
    assert message in str(caught.value)
    assert f"--param {setting.partition('=')[0]}: " in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG_ALONE = ["fetch.source=folder", "fetch.uri=photos"]  # the first wants an uri, which the second gives


@pytest.mark.parametrize(
    ("settings", "blamed", "message"),
    [
        ([*WRONG_ALONE, "attack.epochs=0"], "attack.epochs", "epochs is 0"),
        (["attack.epochs=0", *WRONG_ALONE], "attack.epochs", "epochs is 0"),
        ([WRONG_ALONE[0], "attack.epochs=0", WRONG_ALONE[1]], "attack.epochs", "epochs is 0"),
        ([*WRONG_ALONE, "attack.epochs=0", "attack.batch_size=0"], "attack.epochs", "epochs is 0"),
        ([WRONG_ALONE[0], "attack.epochs=5"], "fetch.source", "uri is empty"),
        (["attack.epochs=0", "attack.seed=1", "attack.epochs=0"], "attack.epochs", "epochs is 0"),
        (["attack.epochs=many", "attack.epochs=5", "prepare.image_size=1"], "prepare.image_size", "1;"),
    ],
)
def test_of_several_settings_the_wrong_one_is_named(settings, blamed, message):
    with pytest.raises(DdmError) as caught:
        load_params(PARAMS_FILE, settings=settings)
    assert str(caught.value).startswith(f"--param {blamed}: ")
    assert message in str(caught.value)


def test_a_setting_that_is_wrong_with_the_file_of_changes_alone_is_named(tmp_path):
    changes = tmp_path / "changes.yaml"
    changes.write_text("fetch: {source: folder, uri: photos, digest: null}")
    with pytest.raises(DdmError, match=r"^--param fetch\.uri: fetch: uri is empty"):
        load_params(PARAMS_FILE, changes, ["fetch.uri=''"])


def test_a_mistake_in_the_file_of_changes_is_told_of_that_file(tmp_path):
    changes = tmp_path / "changes.yaml"
    changes.write_text("attack: {epochz: 3}")
    with pytest.raises(DdmError, match=r"changes\.yaml: attack: unknown key 'epochz'"):
        load_params(PARAMS_FILE, changes)


def test_pipeline_parameters_have_the_names_and_values_of_params_yaml():
    content = yaml.safe_load(PARAMS_FILE.read_text())
    arguments = to_arguments(load(PARAMS_FILE))
    assert set(arguments) == set(content)
    assert arguments["attack"] == content["attack"]
    assert {entry["name"]: entry["method"] for entry in arguments["train"]} == {
        name: settings["method"] for name, settings in content["train"].items()
    }


def as_kfp_returns(value):
    """KFP keeps every number as a floating-point number."""
    if isinstance(value, dict):
        return {name: as_kfp_returns(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_kfp_returns(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_settings_survive_the_way_through_kfp():
    params = load(PARAMS_FILE)
    assert from_arguments(as_kfp_returns(to_arguments(params))) == params


def test_an_entry_without_a_name_is_refused():
    arguments = to_arguments(load(PARAMS_FILE))
    arguments["train"] = [{"method": "none"}]
    with pytest.raises(DdmError, match="an entry without 'name'"):
        from_arguments(arguments)

"""Whatever changes a training's result changes the name of its checkpoints."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import yaml

from ddm_core.training_key import PACKAGE, TRAINING_CODE, code_digest, training_key

CHECKOUT = Path(__file__).parents[1]
DATASET = "ab" * 32


def test_a_key_names_the_training_and_is_the_same_every_time(ddm_params):
    key = training_key("faces", ddm_params, DATASET)
    assert re.fullmatch(r"faces-[0-9a-f]{16}", key)
    assert training_key("faces", ddm_params, DATASET) == key


def test_every_setting_the_name_and_the_photos_change_it(keyed_ddm_params):
    keys = [training_key("a", keyed_ddm_params, DATASET), training_key("b", keyed_ddm_params, DATASET)]
    keys.append(training_key("a", keyed_ddm_params, "cd" * 32))
    changed = {"precision": "bf16", "split": "identity", "data": "memory", "clip_discriminator": True}
    changed["compile"] = True
    fields = [field.name for field in dataclasses.fields(keyed_ddm_params) if field.name != "method"]
    for name in fields:
        value = changed.get(name) or getattr(keyed_ddm_params, name) * 0.9375
        settings = dataclasses.replace(keyed_ddm_params)
        object.__setattr__(settings, name, value)  # some such values are out of range
        keys.append(training_key("a", settings, DATASET))
    zero = [name for name in fields if name not in changed and getattr(keyed_ddm_params, name) == 0]
    assert zero == ["seed"]
    keys.remove(keys[3 + fields.index("seed")])
    keys.append(training_key("a", dataclasses.replace(keyed_ddm_params, seed=1), DATASET))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("place", TRAINING_CODE)
def test_a_change_of_the_training_code_changes_it(place, tmp_path):
    package = tmp_path / "ddm_core"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert code_digest(package) == code_digest()
    files = sorted((package / place).rglob("*.py")) if (package / place).is_dir() else [package / place]
    files[-1].write_text(files[-1].read_text() + "\n# Another word.\n")
    assert code_digest(package) != code_digest()


def test_a_change_of_other_code_leaves_it(tmp_path):
    package = tmp_path / "ddm_core"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "stages" / "report.py").write_text("# Another word.\n")
    assert code_digest(package) == code_digest()


def test_the_training_code_is_what_dvc_yaml_lists_for_the_stage():
    stage = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"]["train"]["do"]
    listed = {dep.removeprefix("ddm_core/") for dep in stage["deps"] if dep.startswith("ddm_core/")}
    assert set(TRAINING_CODE) == listed

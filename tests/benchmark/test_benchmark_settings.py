"""benchmark/params.yaml and what the command line makes of it."""

import re

import pytest
from small_benchmark import CHECKOUT, small_params, write_yaml

from ddm_core.benchmark.settings import KNOWN_ATTACKERS, Choice, load, with_seed
from ddm_core.channel_names import LAB_CHANNELS
from ddm_core.errors import DdmError
from ddm_core.learned_params import OptimisationParams
from ddm_core.obfuscator_params import METHODS, ExternalParams
from ddm_core.params import load as load_pipeline

SHIPPED = CHECKOUT / "benchmark/params.yaml"


@pytest.fixture
def file(tmp_path):
    return write_yaml(tmp_path / "params.yaml", small_params())


def refusal(path, choice=None):
    with pytest.raises(DdmError) as caught:
        load(path, choice or Choice())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(path, **sections):
    return write_yaml(path, small_params() | sections)


def test_the_shipped_grid_has_every_method_every_attacker_and_every_channel():
    params = load(SHIPPED, Choice())
    elsewhere = {"external", "photo_ddm"}  # by address; for colour, and these photos are grey
    methods = {params.train[name].method for name in params.obfuscators}
    assert methods == set(METHODS) - elsewhere
    assert set(params.attackers) == set(KNOWN_ATTACKERS)
    assert params.utility.channels == LAB_CHANNELS


def test_every_cell_of_the_shipped_grid_takes_one_thread():
    params = load(SHIPPED, Choice())
    sections = (params.recognise, params.attack, params.utility, *params.train.values())
    assert {section.threads for section in sections if hasattr(section, "threads")} == {1}


def test_learned_obfuscators_are_trained_as_in_the_pipeline_but_for_the_threads():
    ours, pipeline = load(SHIPPED, Choice()).train, load_pipeline(CHECKOUT / "params.yaml").train
    learned = [name for name, settings in pipeline.items() if isinstance(settings, OptimisationParams)]
    assert len(learned) == 3
    for name in learned:
        assert vars(ours[name]) | {"threads": 2} == vars(pipeline[name])


def test_quick_is_a_part_of_the_shipped_grid_with_less_training():
    whole, quick = (load(SHIPPED, Choice(quick=is_quick)) for is_quick in (False, True))
    assert set(quick.obfuscators) < set(whole.obfuscators)
    assert set(quick.attackers) < set(whole.attackers)
    assert quick.train["keyed_ddm"].steps < whole.train["keyed_ddm"].steps
    assert quick.train["keyed_ddm"].width == whole.train["keyed_ddm"].width


def test_quick_changes_only_what_it_names(file):
    changed(
        file, quick={"train": {"keyed_ddm": {"steps": 2}}, "attack": {"epochs": 7}, "attackers": ["clean"]}
    )
    whole, quick = (load(file, Choice(quick=is_quick)) for is_quick in (False, True))
    assert (quick.train["keyed_ddm"].steps, quick.attack.epochs, quick.attackers) == (2, 7, ("clean",))
    assert quick.attack.batch_size == whole.attack.batch_size
    assert quick.recognise == whole.recognise


def test_names_choose_a_part_of_the_grid(file):
    params = load(file, Choice(obfuscators=("keyed_ddm",), attackers=("clean",), seeds=(3, 5)))
    assert (params.obfuscators, params.attackers, params.seeds) == (("keyed_ddm",), ("clean",), (3, 5))


def test_what_transfer_learns_from_does_not_depend_on_the_choice(file):
    assert load(file, Choice(obfuscators=("keyed_ddm",))).transfer_from == ("xor_cipher", "keyed_ddm")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("pack.hide:blur", "pack_hide_blur"),
        ("models:/ddm/3", "models_ddm_3"),
        ("models:/d@champion", "models_d_champion"),
    ],
)
def test_somebody_elses_obfuscator_joins_the_grid_by_its_address(file, address, name):
    params = load(file, Choice(obfuscators=("xor_cipher",), others=(address,)))
    assert params.obfuscators == ("xor_cipher", name)
    assert params.train[name] == ExternalParams(method="external", uri=address)


def test_an_obfuscator_alone_is_the_whole_grid(file):
    assert load(file, Choice(others=("keyed_ddm",))).obfuscators == ("keyed_ddm",)


def test_the_controls_of_the_sanity_gate_can_be_chosen_though_the_file_lacks_them(file):
    assert load(file, Choice(obfuscators=("many_time_pad", "none"))).obfuscators == ("many_time_pad", "none")


def test_the_name_of_a_control_means_the_control(file):
    params = small_params()
    params["train"]["mosaic16"] = {"method": "mosaic", "block": 2}
    message = refusal(write_yaml(file, params))
    assert "train: mosaic16 is a control of the sanity gate" in message
    assert "give yours another name" in message


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(obfuscators=("keyed_dmd",)), "unknown obfuscator 'keyed_dmd'.*did you mean 'keyed_ddm'"),
        (Choice(others=("no where:here",)), "uri is 'no where:here'; write module:function"),
        (Choice(attackers=("claen",)), "unknown attacker 'claen'.*did you mean 'clean'"),
        (Choice(quick=True), "has no section quick; add one or leave --quick out"),
    ],
)
def test_a_wrong_choice_is_one_line_that_says_how_to_mend_it(file, choice, words):
    assert re.search(words, refusal(file, choice))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"train": {}}, "train is empty"),
        ({"train": {"a b": {"method": "none"}}}, "'a b' is no name"),
        ({"attackers": ["clean", "strong"]}, "unknown attacker 'strong'"),
        ({"attackers": []}, "attackers is empty"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [-1]}, "seeds count from 0"),
        ({"seeds": [2, 2]}, "seeds names one twice"),
        ({"obfuscators": ["nobody"]}, "obfuscators: 'nobody' is no obfuscator of train"),
        ({"utilty": {}}, "unknown key 'utilty'; did you mean 'utility'"),
        ({"train": {"a": {"method": "nothing"}}}, "unknown method 'nothing'"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_place(file, sections, words):
    message = refusal(changed(file, **sections))
    assert str(file) in message
    assert words in message


@pytest.mark.parametrize("quick", [["none"], {"train": {"a": 3}}, {"speed": 1}, {"obfuscators": ["nobody"]}])
def test_a_wrong_quick_section_is_one_line(file, quick):
    assert str(file) in refusal(changed(file, quick=quick), Choice(quick=True))


def test_a_seed_takes_the_place_of_a_section_s_own(file):
    params = load(file, Choice())
    assert with_seed(params.attack, 9).seed == 9
    assert with_seed(params.train["keyed_ddm"], 9).seed == 9
    assert with_seed(params.train["xor_cipher"], 9) == params.train["xor_cipher"]

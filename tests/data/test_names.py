"""One person's name in two sets, however each writes it; photos of shared people are dropped and counted."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddm_core.data.names import normalised_name, shared_people, without_people
from ddm_core.data.raw import RawPhoto, Rejected


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("Aaron_Eckhart", "aaron eckhart"),
        ("  JEAN-PIERRE__Raffarin ", "jean pierre raffarin"),
        ("Beyoncé Knowles", "beyonce knowles"),
        ("Gerhard Schröder", "gerhard schroder"),
        ("Günter Graß", "gunter grass"),
        ("Søren Kierkegård", "soren kierkegard"),
        ("Lech Wałęsa", "lech walesa"),
        ("İlham Əliyev", "ilham əliyev"),
        ("Ｗｉｄｅ　Name", "wide name"),  # noqa: RUF001
        ("王芳", "王芳"),
        ("Ван Фан", "ван фан"),
        ("ガガ", "ガガ"),
        ("अमिताभ बच्चन", "अमिताभ बच्चन"),
        ("!?", ""),
    ],
)
def test_case_accents_and_punctuation_do_not_count_and_the_order_of_names_stays(written, normalised):
    assert normalised_name(written) == normalised


def test_vowels_of_other_scripts_are_no_accents():
    assert normalised_name("किरण") != normalised_name("करण")
    assert normalised_name("か") != normalised_name("が")


@given(st.text())
def test_normalising_again_changes_nothing(name):
    assert normalised_name(normalised_name(name)) == normalised_name(name)


@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_the_form_in_which_a_file_system_stores_a_name_does_not_count(name, form):
    assert normalised_name(unicodedata.normalize(form, name)) == normalised_name(name)


def test_shared_people_come_as_the_first_set_writes_them():
    training = ["Rosie O'Donnell", "J. K. Rowling", "zoë saldana", "Nobody Else", "Rosie O'Donnell"]
    lfw = ["JK_Rowling", "Rosie_ODonnell", "Zoe_Saldana", "Aaron_Eckhart"]
    assert shared_people(training, lfw) == ("J. K. Rowling", "Rosie O'Donnell", "zoë saldana")


def test_given_and_family_name_in_the_other_order_are_another_person():
    assert shared_people(["Zemin Jiang"], ["Jiang_Zemin"]) == ()


def test_names_of_punctuation_alone_are_nobody():
    assert shared_people(["--", "."], ["__", "!"]) == ()


@given(st.lists(st.text(max_size=4)), st.lists(st.text(max_size=4)))
def test_whoever_is_shared_is_shared_the_other_way_round(names_a, names_b):
    assert bool(shared_people(names_a, names_b)) == bool(shared_people(names_b, names_a))
    assert set(shared_people(names_a, names_b)) <= set(names_a)


def test_photos_of_shared_people_are_dropped_and_counted():
    photos = [
        RawPhoto("Zoë Saldana/1.jpg", b"a"),
        RawPhoto("Anna Lee/1.jpg", b"b"),
        Rejected("Zoë Saldana/2.gif", "no photo"),
        RawPhoto("Zoë Saldana/3.jpg", b"c"),
        RawPhoto("Björn/1.jpg", b"d"),
    ]
    dropped = Counter()
    kept = list(without_people(iter(photos), ["Zoe_Saldana", "Bjorn", "Not_There"], dropped))
    assert [photo.relative for photo in kept] == ["Anna Lee/1.jpg", "Zoë Saldana/2.gif"]
    assert dropped == {"Zoë Saldana": 2, "Björn": 1}


def test_photos_are_taken_one_at_a_time():
    def endless():
        while True:
            yield RawPhoto("Anna Lee/1.jpg", b"")

    assert next(without_people(endless(), ["Björn"], Counter())).relative == "Anna Lee/1.jpg"

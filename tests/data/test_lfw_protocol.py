"""LFW's lists are read in their exact format or refused by line; view 2 never chooses on what it tests."""

import math
from collections import Counter

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lfw_files import development_pairs_text, development_people_text, pairs_text, people_text

from ddm_core.data.lfw_protocol import (
    Pair,
    Person,
    best_threshold,
    fold_accuracies,
    read_development_pairs,
    read_development_people,
    read_pairs,
    read_people,
    verification_accuracy,
    view_2,
)
from ddm_core.errors import DdmError


def fold(number, pairs):
    """A fold's matched and mismatched lines; no person is in two folds."""
    matched = [(f"Anna_{number}", n, n + 1) for n in range(1, pairs + 1)]
    return matched, [(f"Ben_{number}", n, f"Catherine_{number}-Jones", n) for n in range(1, pairs + 1)]


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_pairs_txt_gives_ten_folds_of_three_hundred_matched_and_as_many_mismatched_pairs(tmp_path):
    text = pairs_text([fold(number, 300) for number in range(10)])
    assert text.startswith("10\t300\nAnna_0\t1\t2\n")
    folds = read_pairs(write(tmp_path / "pairs.txt", text))
    assert [len(pairs) for pairs in folds] == [600] * 10
    assert [pair.same for pair in folds[9]] == [True] * 300 + [False] * 300
    assert folds[3][0] == Pair("Anna_3/Anna_3_0001.jpg", "Anna_3/Anna_3_0002.jpg", True)
    assert folds[3][599] == Pair(
        "Ben_3/Ben_3_0300.jpg", "Catherine_3-Jones/Catherine_3-Jones_0300.jpg", False
    )


def test_development_pairs_are_one_list(tmp_path):
    pairs = read_development_pairs(write(tmp_path / "pairsDevTrain.txt", development_pairs_text(*fold(0, 3))))
    assert [pair.same for pair in pairs] == [True] * 3 + [False] * 3
    assert pairs[0] == Pair("Anna_0/Anna_0_0001.jpg", "Anna_0/Anna_0_0002.jpg", True)


def test_people_txt_gives_folds_of_people_with_their_number_of_photos(tmp_path):
    path = write(tmp_path / "people.txt", people_text([{"Anna_Lee": 2, "José": 530}, {"Zoe": 1}]))
    assert read_people(path) == ((Person("Anna_Lee", 2), Person("José", 530)), (Person("Zoe", 1),))


def test_development_people_are_one_list(tmp_path):
    path = write(tmp_path / "peopleDevTest.txt", development_people_text({"Anna_Lee": 2, "Zoe": 1}))
    assert read_development_people(path) == (Person("Anna_Lee", 2), Person("Zoe", 1))


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("\n", "\r\n"), str.strip, lambda text: text + "\n\n"]
)
def test_line_ends_of_other_systems_and_at_the_end_do_not_count(tmp_path, change):
    text = pairs_text([fold(0, 2), fold(1, 2)])
    whole = read_pairs(write(tmp_path / "whole.txt", text))
    assert read_pairs(write(tmp_path / "changed.txt", change(text))) == whole


GOOD = "1\t2\nA\t1\t2\nB\t3\t4\nA\t1\tB\t1\nC\t1\tB\t2\n"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("1\t2\nA", "1 2\nA", "line 1: expected number of folds, tab, number of pairs"),
        ("1\t2\nA", "1\nA", "line 1: expected number of folds, tab"),
        ("1\t2\nA", "0\t2\nA", "line 1: '0' is no number of folds"),
        ("1\t2\nA", "1\t-2\nA", "line 1: '-2' is no number of pairs"),
        ("1\t2\nA", "1\t٢\nA", "line 1: '٢' is no number of pairs"),
        ("A\t1\t2", "A 1 2", "line 2: expected a matched pair, tab-separated: name, number, number"),
        ("A\t1\t2", "A\t1\tB\t2", "line 2: expected a matched pair"),
        ("A\t1\t2", "A\t1\t0", "line 2: '0' is no photo's number"),
        ("A\t1\t2", "A\t1\t10000", "line 2: 10000 is no photo's number"),
        ("A\t1\t2", "A\t1\t02", "line 2: '02' is no photo's number"),
        ("A\t1\t2", "A\t2\t2", "line 2: pairs a photo with itself"),
        ("A\t1\t2", "\t1\t2", "line 2: '' is no person's name"),
        ("A\t1\t2", "../A\t1\t2", r"line 2: '\.\./A' is no person's name"),
        ("A\t1\t2", "a/b\t1\t2", "line 2: 'a/b' is no person's name"),
        ("A\t1\t2", "a\x1b\t1\t2", r"line 2: 'a\\x1b' is no person's name"),
        ("B\t3\t4", "A\t2\t1", "line 3: this pair stands above already"),
        ("A\t1\tB\t1", "A\t1\tA\t3", "line 4: a mismatched pair of one person"),
        ("A\t1\tB\t1", "A\t3\t4", "line 4: expected a mismatched pair"),
        ("C\t1\tB\t2", "B\t1\tA\t1", "line 5: this pair stands above already"),
        ("C\t1\tB\t2\n", "", "ends after line 4, before a mismatched pair"),
        ("C\t1\tB\t2\n", "C\t1\tB\t2\nD\t1\t2\n", "line 6: more than the counts above announce"),
        ("B\t3\t4\n", "\nB\t3\t4\n", "line 3: expected a matched pair"),
    ],
)
def test_a_pair_that_is_not_as_the_format_says_is_refused_by_its_line(tmp_path, old, new, reason):
    assert len(read_pairs(write(tmp_path / "good.txt", GOOD))[0]) == 4
    with pytest.raises(DdmError, match=f"pairs.txt(,| ).*{reason}|pairs.txt: {reason}") as caught:
        read_pairs(write(tmp_path / "pairs.txt", GOOD.replace(old, new)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ends after line 0, before number of folds"),
        ("2\n1\nA\t1\n", "ends after line 3, before number of people"),
        ("1\n2\nA\t1\nA\t3\n", "line 4: A stands above already"),
        ("2\n1\nA\t1\n1\nA\t3\n", "line 5: A stands above already"),
        ("1\n1\nA\n", "line 3: expected a person's name, tab, number of photos"),
        ("1\n1\nA\tmany\n", "line 3: 'many' is no number of photos"),
        ("1\nA\t1\n", "line 2: expected number of people"),
        ("1\n1\nA\t1\nB\t1\n", "line 4: more than the counts above announce"),
    ],
)
def test_a_person_that_is_not_as_the_format_says_is_refused_by_the_line(tmp_path, text, reason):
    with pytest.raises(DdmError, match=reason):
        read_people(write(tmp_path / "people.txt", text))


@pytest.mark.parametrize("reader", [read_pairs, read_development_pairs, read_people, read_development_people])
def test_a_list_that_is_missing_or_no_text_is_one_clear_line(tmp_path, reader):
    with pytest.raises(DdmError, match=r"gone\.txt: not found"):
        reader(tmp_path / "gone.txt")
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DdmError, match=r"photo\.txt: not UTF-8 text"):
        reader(tmp_path / "photo.txt")


@given(st.lists(st.integers(1, 5), min_size=2, max_size=12))
def test_every_pair_is_in_exactly_one_test_fold_and_never_in_its_own_training_folds(sizes):
    folds = tuple(
        tuple(Pair(f"{i}", f"{i}/{n}", n % 2 == 0) for n in range(size)) for i, size in enumerate(sizes)
    )
    tested = Counter()
    for train, test in view_2(folds):
        chosen_on = [pair for others in train for pair in others]
        assert set(test).isdisjoint(chosen_on)
        assert len(test) + len(chosen_on) == sum(sizes)
        tested.update(test)
    assert tested == Counter(pair for pairs in folds for pair in pairs)


SCORES = st.integers(-3, 3).map(float) | st.floats(-1, 1) | st.sampled_from([1.0, math.nextafter(1.0, 2)])


@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=40))
def test_no_threshold_tells_more_pairs_right_than_the_best_one(scored):
    scores, same = (numpy.array(column) for column in zip(*scored, strict=True))
    threshold = best_threshold(scores, same)
    every = [-math.inf, math.inf, *scores]
    assert ((scores >= threshold) == same).sum() == max(((scores >= t) == same).sum() for t in every)


def test_the_threshold_lies_half_way_between_what_it_divides():
    same = numpy.array([False, False, True, True])
    assert best_threshold(numpy.array([0.1, 0.2, 0.6, 0.9]), same) == pytest.approx(0.4)
    assert best_threshold(numpy.array([0.1, 0.2, 0.6, 0.9]), numpy.ones(4, bool)) == -math.inf
    assert best_threshold(numpy.array([0.1, 0.2, 0.6, 0.9]), numpy.zeros(4, bool)) == math.inf


def random_folds(draw, count, size):
    folds = tuple(tuple(Pair(f"{i}", f"{n}", draw(st.booleans())) for n in range(size)) for i in range(count))
    scores = draw(st.lists(SCORES, min_size=count * size, max_size=count * size))
    return numpy.array(scores), folds


@given(st.data(), st.integers(2, 5), st.integers(1, 6))
def test_the_labels_of_a_test_fold_never_move_its_threshold(data, count, size):
    """With every label of one fold turned round, exactly what was right there is wrong."""
    scores, folds = random_folds(data.draw, count, size)
    turned = tuple(Pair(pair.first, pair.second, not pair.same) for pair in folds[0])
    before, after = (fold_accuracies(scores, (first, *folds[1:]))[0] for first in (folds[0], turned))
    assert before + after == pytest.approx(1)


@given(st.data(), st.integers(2, 5), st.integers(1, 6))
def test_the_accuracy_is_that_of_trying_every_threshold_on_the_other_folds(data, count, size):
    scores, folds = random_folds(data.draw, count, size)
    rows = scores.reshape(count, size)
    same = numpy.array([[pair.same for pair in pairs] for pairs in folds])
    expected = []
    for test in range(count):
        others = [i for i in range(count) if i != test]
        threshold = best_threshold(rows[others].ravel(), same[others].ravel())
        expected.append(
            sum((s >= threshold) == y for s, y in zip(rows[test], same[test], strict=True)) / size
        )
    mean, error = verification_accuracy(rows, folds)
    assert mean == pytest.approx(sum(expected) / count)
    spread = sum((accuracy - mean) ** 2 for accuracy in expected) / (count - 1)
    assert error == pytest.approx(math.sqrt(spread / count), abs=1e-12)


def test_scores_that_separate_give_one_and_scores_that_know_nothing_give_a_half():
    folds = tuple(tuple(Pair(f"{i}", f"{n}", n < 30) for n in range(60)) for i in range(10))
    same = numpy.array([[pair.same for pair in pairs] for pairs in folds])
    assert verification_accuracy(numpy.where(same, 0.7, 0.3), folds) == (1.0, 0.0)
    assert verification_accuracy(numpy.zeros(600), folds) == (0.5, 0.0)
    noise = numpy.random.default_rng(0).normal(size=same.shape)
    mean, error = verification_accuracy(noise, folds)
    assert abs(mean - 0.5) < 0.08
    assert 0 < error < 0.04
    assert verification_accuracy(noise + 2 * same, folds)[0] == pytest.approx(0.84, abs=0.04)  # Phi(1)


@pytest.mark.parametrize(
    ("scores", "sizes", "reason"),
    [
        ([0.1, 0.2, 0.3], [2, 2], "3 scores for 4 pairs"),
        ([0.1, 0.2, float("nan"), 0.3], [2, 2], "not a finite number"),
        ([0.1, 0.2, float("inf"), 0.3], [2, 2], "not a finite number"),
        ([0.1, 0.2], [2], "1 folds of .2. pairs; give at least two"),
        ([0.1, 0.2], [2, 0], "2 folds of .2, 0. pairs; give at least two, none of them empty"),
    ],
)
def test_scores_that_do_not_fit_the_folds_are_an_error(scores, sizes, reason):
    folds = tuple(tuple(Pair("a", f"{n}", n % 2 == 0) for n in range(size)) for size in sizes)
    with pytest.raises(DdmError, match=reason):
        verification_accuracy(scores, folds)

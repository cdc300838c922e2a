"""Splits keep their fractions, hold duplicates together, and change only where the data change."""

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from ddm_core.data.splits import SplitItem, split_by_identity, split_by_image

FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**31)


@st.composite
def collections(draw, duplicates):
    """Photos of up to six people; with `duplicates`, pixels come from a small pool and so often repeat."""
    people = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    pixels = st.integers(0, 30).map(str)
    return [
        SplitItem(f"{person}/{n}", f"person {person}", draw(pixels) if duplicates else f"{person}/{n}")
        for person, count in enumerate(people)
        for n in range(count)
    ]


@given(collections(duplicates=False), FRACTIONS, SEEDS)
def test_every_person_gives_the_rounded_fraction_to_test_and_keeps_one_for_train(items, fraction, seed):
    split = split_by_image(items, fraction, seed)
    photos = Counter(item.identity for item in items)
    tested = Counter(item.identity for item in items if split[item.name] == "test")
    for identity, count in photos.items():
        assert tested[identity] <= count - 1
        assert abs(tested[identity] - count * fraction) <= 0.5 + 1e-6 or tested[identity] == count - 1


@given(collections(duplicates=True), FRACTIONS, SEEDS)
def test_the_same_pixels_never_straddle_the_split_by_image(items, fraction, seed):
    split = split_by_image(items, fraction, seed)
    sides = defaultdict(set)
    trained = Counter()
    for item in items:
        sides[item.pixels].add(split[item.name])
        trained[item.identity] += split[item.name] == "train"
    assert split.keys() == {item.name for item in items}
    assert all(len(side) == 1 for side in sides.values())
    assert all(trained[item.identity] >= 1 for item in items)


@given(collections(duplicates=True), FRACTIONS, SEEDS)
def test_the_same_pixels_never_straddle_the_split_by_identity(items, fraction, seed):
    split = split_by_identity(items, fraction, seed)
    sides = defaultdict(set)
    for item in items:
        sides[item.pixels].add(split[item.identity])
    assert split.keys() == {item.identity for item in items}
    assert all(len(side) == 1 for side in sides.values())
    assert "train" in split.values()


@given(st.integers(2, 50), FRACTIONS, SEEDS)
def test_the_split_by_identity_gives_the_rounded_fraction_of_people_at_least_one_each(people, fraction, seed):
    items = [SplitItem(f"{person}/0", f"person {person}", str(person)) for person in range(people)]
    tested = Counter(split_by_identity(items, fraction, seed).values())["test"]
    assert 1 <= tested <= people - 1
    assert abs(tested - people * fraction) <= 0.5 + 1e-6 or tested in (1, people - 1)


@given(collections(duplicates=True), FRACTIONS, SEEDS, st.randoms())
def test_the_order_in_which_files_are_listed_changes_nothing(items, fraction, seed, random):
    shuffled = random.sample(items, len(items))
    assert split_by_image(shuffled, fraction, seed) == split_by_image(items, fraction, seed)
    assert split_by_identity(shuffled, fraction, seed) == split_by_identity(items, fraction, seed)


@given(collections(duplicates=False), FRACTIONS, SEEDS)
def test_a_new_person_leaves_the_photos_of_the_others_where_they_were(items, fraction, seed):
    newcomer = [SplitItem(f"new/{n}", "new", f"new/{n}") for n in range(5)]
    before = split_by_image(items, fraction, seed)
    after = split_by_image(items + newcomer, fraction, seed)
    assert before.items() <= after.items()


def test_halves_round_up_and_another_seed_draws_other_photos():
    items = [SplitItem(f"a/{n}", "a", str(n)) for n in range(10)]
    draws = {
        frozenset(k for k, v in split_by_image(items, 0.25, seed).items() if v == "test") for seed in range(9)
    }
    assert {len(draw) for draw in draws} == {3}
    assert len(draws) > 1


def test_a_single_photo_trains():
    assert split_by_image([SplitItem("a/0", "a", "x")], 0.9, 0) == {"a/0": "train"}


def test_a_photo_filed_under_two_people_trains_and_joins_them():
    items = [SplitItem(f"{person}/{n}", person, f"{person}/{n}") for person in "abc" for n in range(3)]
    items += [SplitItem("a/shared", "a", "same"), SplitItem("b/shared", "b", "same")]
    for seed in range(20):
        by_image = split_by_image(items, 0.5, seed)
        by_identity = split_by_identity(items, 0.34, seed)
        assert by_image["a/shared"] == by_image["b/shared"] == "train"
        assert by_identity == {"a": "train", "b": "train", "c": "test"}


def test_when_everyone_shares_a_photo_nobody_is_left_for_the_test_split_by_identity():
    items = [SplitItem(person, person, "same") for person in "abc"]
    assert set(split_by_identity(items, 0.5, 0).values()) == {"train"}

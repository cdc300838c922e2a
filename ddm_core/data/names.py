"""People's names across datasets: which identities two sets share, and photos without them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from ddm_core.data.raw import RawPhoto, Rejected

# Letters that have no decomposition in Unicode, as sets with ASCII names such as LFW write them.
ASCII_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}  # noqa: RUF001
)


def normalised_name(name: str) -> str:
    """Return a name without case, accents and punctuation, one space between words, order as written.

    `"Jean-Pierre_RAFFARIN"` and `"jean pierre raffarin"` come out alike, so do `"Søren"` and `"Soren"`.
    Marks that are no accents, such as the vowels of Indian scripts, stay.
    """
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    plain = "".join(letter for letter in letters if not _is_accent(letter)).translate(ASCII_LETTERS)
    words = "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in plain).split()
    return unicodedata.normalize("NFC", " ".join(words))


def shared_people(names_a: Iterable[str], names_b: Iterable[str]) -> tuple[str, ...]:
    """Return, sorted and as written, those of `names_a` who are in `names_b` by normalised name.

    Spaces do not count: LFW writes `Rosie_ODonnell` and `JK_Rowling` for Rosie O'Donnell and J. K. Rowling.
    Two people of one name are taken for one: a person too many is dropped rather than one too few.
    """
    wanted = {_key(name) for name in names_b} - {""}
    return tuple(sorted({name for name in names_a if _key(name) in wanted}))


def without_people(
    photos: Iterable[RawPhoto | Rejected],
    names: Iterable[str],
    dropped: Counter[str],
    name_of: Callable[[str], str] = str,
) -> Iterator[RawPhoto | Rejected]:
    """Yield `photos` without those of people in `names`, compared as in `shared_people`.

    `name_of` gives the person's name from the name of the photo's folder.

    `dropped` counts as the photos pass: person, as the photo's folder is called -> photos dropped; so
    `len(dropped)` people and `dropped.total()` photos in the end. Rejected files pass through.
    """
    unwanted = {_key(name) for name in names} - {""}
    for photo in photos:
        person = photo.relative.partition("/")[0]
        if isinstance(photo, RawPhoto) and _key(name_of(person)) in unwanted:
            dropped[person] += 1
        else:
            yield photo


def _key(name: str) -> str:
    return normalised_name(name).replace(" ", "")


def _is_accent(letter: str) -> bool:
    """Marks set above, below or through a letter; classes below 200 are vowels, voicing and the like."""
    return unicodedata.combining(letter) >= 200

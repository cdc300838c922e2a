"""requirements-runtime.lock is requirements.lock without what only development needs."""

from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]


def pins(name):
    return dict(line.split("==") for line in (CHECKOUT / name).read_text().splitlines())


@pytest.fixture(scope="module")
def locked():
    return pins("requirements.lock")


@pytest.fixture(scope="module")
def runtime():
    return pins("requirements-runtime.lock")


def wanted_by(package, extras):
    """Names and extras that an installed package asks for on this machine."""
    try:
        requirements = [Requirement(line) for line in requires(package) or []]
    except PackageNotFoundError:
        return
    for requirement in requirements:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def test_its_pins_are_those_of_the_whole_lock_file(locked, runtime):
    assert runtime.items() <= locked.items()


def test_it_holds_what_the_project_needs_and_nothing_else(locked, runtime):
    pending, seen = [("ddm-pipeline", frozenset())], set()
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            pending += [wanted for wanted in wanted_by(*node) if wanted[0] in locked]
    assert {name for name, _ in seen} - {"ddm-pipeline"} == set(runtime)

"""What verbs share: `--params`, paths and places that default to those of dvc.yaml, an entry by its name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ddm_core.errors import DdmError, did_you_mean
from ddm_core.places import local_path, place

if TYPE_CHECKING:
    from ddm_core.params import ObfuscatorParams

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_stage(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    """Add the verb of a stage, which calls `run` with the options; return its parser."""
    parser = verbs.add_parser(name, help=f"stage: {summary}", description=summary)
    parser.set_defaults(run=run)
    add_path(parser, "--params", "params.yaml", "the parameter file")
    return parser


def add_path(parser: argparse.ArgumentParser, flag: str, default: str, summary: str) -> None:
    """Add an option for a path on this machine."""
    parser.add_argument(
        flag, type=local_path, default=Path(default), metavar="PATH", help=f"{summary} ({default})"
    )


def add_place(parser: argparse.ArgumentParser, flag: str, default: str, summary: str) -> None:
    """Add an option for a path or an address on S3."""
    parser.add_argument(
        flag, type=place, default=Path(default), metavar="PLACE", help=f"{summary} ({default}), or s3://…"
    )


def named_obfuscator(train: dict[str, ObfuscatorParams], name: str) -> ObfuscatorParams:
    """Return the settings of an entry of the train section.

    Raises:
        DdmError: there is none of that name.
    """
    if name not in train:
        raise DdmError(f"unknown obfuscator '{name}' in section train{did_you_mean(name, train)}")
    return train[name]

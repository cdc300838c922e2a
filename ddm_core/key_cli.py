"""`ddm key new|show|rotate`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from ddm_core.places import local_path
from ddm_core.verb_options import Verbs

Passphrase: TypeAlias = Callable[[], bytes]


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `key` to a command line."""
    summary = "make, show or rotate a master key"
    key = verbs.add_parser("key", help=summary, description=summary)
    key_verbs = key.add_subparsers(title="verbs", metavar="VERB", required=True)

    summary = "write a new master key that only you can read"
    new = key_verbs.add_parser("new", help=summary, description=summary)
    new.set_defaults(run=_new)
    new.add_argument("file", type=local_path, help="key file to create; never overwritten")
    new.add_argument("--passphrase", action="store_true", help="ask for a passphrase to put it under")
    add_passphrase_options(new)

    summary = "print the ids of the keys in a file, never the keys"
    show = key_verbs.add_parser("show", help=summary, description=summary)
    show.set_defaults(run=_show)
    show.add_argument("file", type=local_path, help="key file")

    summary = "add a new key that encrypts; the old ones still decrypt"
    rotate = key_verbs.add_parser("rotate", help=summary, description=summary)
    rotate.set_defaults(run=_rotate)
    rotate.add_argument("file", type=local_path, help="key file")
    add_passphrase_options(rotate)


def add_passphrase_options(parser: argparse.ArgumentParser) -> None:
    """Add where to read a passphrase from; the passphrase itself is never an argument: others see those."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--passphrase-file", type=local_path, metavar="FILE", help="read the passphrase from its first line"
    )
    place.add_argument(
        "--passphrase-env", metavar="NAME", help="read the passphrase from this environment variable"
    )


def given_passphrase(options: argparse.Namespace) -> Passphrase | None:
    """Return how to read the passphrase that the options name, or `None` where they name none."""
    from ddm_core import passphrases

    file, name = options.passphrase_file, options.passphrase_env
    if file is not None:
        return lambda: passphrases.from_file(file)
    if name is not None:
        return lambda: passphrases.from_environment(name)
    return None


def any_passphrase(options: argparse.Namespace, key_file: Path) -> Passphrase:
    """Return how to read the passphrase: from where the options say, or at the terminal."""
    from ddm_core import passphrases

    return given_passphrase(options) or (lambda: passphrases.prompted(key_file))


def _new(options: argparse.Namespace) -> None:
    from ddm_core import passphrases
    from ddm_core.key_files import new_key_file

    read = given_passphrase(options) or (lambda: passphrases.prompted(options.file, twice=True))
    wanted = options.passphrase or options.passphrase_file or options.passphrase_env
    key = new_key_file(options.file, (lambda: passphrases.check_strength(read())) if wanted else None)
    print(
        f"{options.file}: a new master key, id {key.id.hex()}; keep it safe, photos encrypted with it cannot"
        " be read without it"
    )


def _show(options: argparse.Namespace) -> None:
    from ddm_core.key_files import describe_key_file

    file = describe_key_file(options.file)
    protection = "under a passphrase" if file.wrapped else "without a passphrase"
    print(f"{options.file}: {len(file.keys)} key{'s' if len(file.keys) > 1 else ''}, {protection}")
    for entry in file.keys:
        role = "encrypts and decrypts" if entry is file.keys[-1] else "decrypts"
        print(f"  {entry.id}  {entry.created or 'time unknown':<25}  {role}")


def _rotate(options: argparse.Namespace) -> None:
    from ddm_core.key_files import rotate_key_file

    ring = rotate_key_file(options.file, any_passphrase(options, options.file))
    print(
        f"{options.file}: encrypts with the new key {ring.current.id.hex()} from now on;"
        f" {len(ring.keys) - 1} older still decrypt; replace your copies of the file"
    )

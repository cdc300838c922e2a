"""Which files of code decide a cell's result: what its stage imports, directly or not."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ddm_core.benchmark.foreign_code import external_files
from ddm_core.benchmark.plan import Cell
from ddm_core.files import sha256_bytes, sha256_file
from ddm_core.obfuscator_params import ExternalParams, ObfuscatorParams

PACKAGE = Path(__file__).parents[1]

# Modules that decide no figure and no weight. Settings and data are inputs of their own.
WITHOUT_INFLUENCE = frozenset(
    f"ddm_core.{name}"
    for name in (
        *("errors", "files", "strict", "ranges", "results", "checkpoints", "grids"),
        *("params", "fetch_params", "obfuscator_params", "attack_params", "channel_names"),
        *("tracking", "tracking_address", "serving.foreign"),
        *("data.manifest", "data.photo_table", "data.splits", "data.tar_shards"),
        *(
            "storage",
            "storage.addresses",
            "storage.reading",
            "termination",
            "checkpoint_options",
            "checkpoint_places",
        ),
        *(
            "training_checkpoints",
            "training_key",
            "training_state",
        ),  # a training that goes on ends in the same bits
    )
)


def code_digest(cell: Cell, settings: ObfuscatorParams | None) -> str:
    """Return the SHA-256 over the files of code that a cell's stage uses, names and contents.

    `settings` are the obfuscator's: other people's code counts too.

    Raises:
        DdmError: the module that an external obfuscator names is not there.
    """
    files = [*code_files(cell)]
    if isinstance(settings, ExternalParams) and not settings.uri.startswith("models:/"):
        files += external_files(settings.uri)
    return _digest(tuple(dict.fromkeys(files)))


@cache
def code_files(cell: Cell) -> tuple[Path, ...]:
    """Return the files of ddm_core that a cell's stage imports, sorted; of the attackers only its own."""
    roots = {f"ddm_core.stages.{cell.stage}"}
    if cell.attacker is not None:
        from ddm_core.attacks.attackers import MODULES

        roots.add(f"ddm_core.attacks.{MODULES.get(cell.attacker, cell.attacker)}")
    return tuple(sorted(_reached(roots)))


def _reached(roots: Iterable[str]) -> set[Path]:
    pending, seen, files = set(roots), set(), set()
    while pending:
        module = pending.pop()
        seen.add(module)
        file = _module_file(module)
        if module not in WITHOUT_INFLUENCE and file is not None:
            files.add(file)
            pending |= _imported(file) - seen
    return files


@cache
def _imported(file: Path) -> frozenset[str]:
    """Return the ddm_core modules that a file imports anywhere, but for types alone."""
    pending: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    found: set[str] = set()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ddm_core":
            modules = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {module if _module_file(module) else str(node.module) for module in modules}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("ddm_core.")}
        pending += ast.iter_child_nodes(node)
    return frozenset(found)


def _module_file(module: str) -> Path | None:
    path = PACKAGE.parent / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


@cache
def _digest(files: tuple[Path, ...]) -> str:
    lines = (f"{_shown(file)} {sha256_file(file)}" for file in files)
    return sha256_bytes("\n".join(lines).encode())


def _shown(file: Path) -> str:
    return str(file.relative_to(PACKAGE)) if file.is_relative_to(PACKAGE) else file.name

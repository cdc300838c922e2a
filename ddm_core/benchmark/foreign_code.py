"""Which files decide what other people's code does: its module, and what that imports of its own package.

Packages that are installed beside it (torch, numpy and the like) are named by their versions, not followed;
files that the code opens, weights for instance, are not seen.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddm_core.errors import DdmError


@dataclass(frozen=True)
class _Home:
    """Where a module comes from: the folder that it is imported from, and the package that it is part of."""

    folder: Path
    package: str

    def files(self, module: str) -> list[Path]:
        """Return a module's file, after those of the packages it is in; empty where it is somebody else's."""
        names = module.split(".")
        if self._is_installed() and names[0] != self.package:
            return []
        files = []
        for count in range(1, len(names) + 1):
            place = self.folder.joinpath(*names[:count])
            choices = (place / "__init__.py", place.with_suffix(".py"))
            files += [file for file in choices if file.is_file()][:1]
        return files

    def _is_installed(self) -> bool:
        """Tell whether other people's packages lie in the folder too."""
        libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
        return self.folder.resolve() in libraries


def external_files(uri: str) -> list[Path]:
    """Return the files that `module:function` consists of, sorted.

    Raises:
        DdmError: the module is not there, or does not parse.
    """
    module = uri.partition(":")[0]
    home = _home(uri, module)
    files = set(home.files(module))
    if not any(file.stem == module.split(".")[-1] or file.stem == "__init__" for file in files):
        raise DdmError(f"{uri}: no module '{module}' here; run where `python -c 'import {module}'` works")
    pending, seen = {module}, set()
    while pending:
        name = pending.pop()
        seen.add(name)
        found = home.files(name)
        files.update(found)
        for file in found:
            pending |= set(_imported(uri, file, home)) - seen
    return sorted(files)


def _imported(uri: str, file: Path, home: _Home) -> Iterator[str]:
    """Yield the names of the modules that a file may import anywhere; some may be functions of a module."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise DdmError(f"{uri}: cannot import {file.name}: {type(error).__name__}: {error}") from None
    package = list(file.relative_to(home.folder).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


def _home(uri: str, module: str) -> _Home:
    """Find the module's top package, without importing it: its code runs where it is judged alone."""
    if str(Path.cwd()) not in sys.path:  # an installed command does not look there, as `python -m` does
        sys.path.insert(0, str(Path.cwd()))
    top = module.partition(".")[0]
    try:
        specification = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        specification = None
    if specification is None:
        raise DdmError(f"{uri}: no module '{module}' here; run where `python -c 'import {module}'` works")
    places = [*(specification.submodule_search_locations or ()), specification.origin or ""]
    return _Home(Path(places[0]).parent, top)

"""The files of this process's modules, for another process that has to import the same ones.

A function is sent to another process as its own name and that of its module. The module may not be
found there by that name: its file may have been loaded under another name, and a `queue.py` or
`types.py` beside it would be taken for the standard module by a process that has not loaded that
one yet.
"""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple


class ModuleFile(NamedTuple):
    """The file of one top-level module."""

    name: str
    file: str
    parts: list[str] | None
    """The directories of a package; None of a module."""


def module_files() -> list[ModuleFile]:
    """Return the modules that another process would not find, or would find elsewhere."""
    places = [(place.resolve(), _names_in(place)) for place in map(Path, sys.path)]
    return [home for home in _loaded_modules() if _is_misled(home, places)]


def _names_in(place: Path) -> frozenset[str]:
    """Return the names that can be imported from a directory, and some that only look like it."""
    try:
        return frozenset(each.name.removesuffix(".py") for each in place.iterdir())
    except OSError:  # an archive, or a missing directory
        return frozenset()


def _loaded_modules() -> Iterator[ModuleFile]:
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if not isinstance(spec, ModuleSpec) or "." in name:
            continue
        if spec.origin is not None and spec.has_location:
            parts = spec.submodule_search_locations
            yield ModuleFile(name, spec.origin, None if parts is None else list(parts))


def _is_misled(home: ModuleFile, places: Sequence[tuple[Path, frozenset[str]]]) -> bool:
    """Return whether an import by name would find another file, or none."""
    file = Path(home.file)
    own_name, where = (
        (file.name.partition(".")[0], file.parent)
        if home.parts is None
        else (file.parent.name, file.parent.parent)
    )
    if own_name != home.name:
        return True
    for place, names in places:
        if place in (where, where.resolve()):
            return False
        if home.name in names:
            return True
    return True


def use_module_files(known: Sequence[Sequence[object]]) -> None:
    """Find modules in this process at the files in `known`, where the other process has them."""
    sys.meta_path.insert(0, _ModuleFileFinder({str(each[0]): ModuleFile(*each) for each in known}))  # pyright: ignore[reportArgumentType]


class _ModuleFileFinder(MetaPathFinder):
    def __init__(self, known: dict[str, ModuleFile]) -> None:
        self._known = known

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the file that the other process has for the module; None: the import goes on as
        ever.
        """
        home = self._known.get(fullname)
        if home is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, home.file, submodule_search_locations=home.parts
        )

"""TARGET: from `path/to/file.py:name` or `package.module:name` to the server it names.

This module must not know what makes an object a server: `headway.server` does.
"""

import atexit
import importlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from headway.cli.exit_codes import Broken
from headway.errors import SetupError
from headway.server import inspect_server

USUAL = ("mcp", "server", "app")
"""The names that win where a module has several servers and the target says none."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server and where it came from."""

    server: object
    identity: str
    """The same for the same target on every start, whatever the working directory."""


def is_server(value: object) -> bool:
    """Return whether Headway can serve `value`."""
    try:
        inspect_server(value)
    except SetupError:
        return False
    return True


def load_target(text: str) -> Target:
    """Return the server that `text` names.

    Raises:
        SetupError: There is none; the text says what is there instead.
        Broken: The module raised while it was imported.
    """
    place, name = _split_target(text)
    is_file = place.endswith(".py") or os.sep in place or Path(place).is_file()
    module = _from_file(place) if is_file else _from_name(place)
    found, server = _pick_server(module, place, name)
    where = str(Path(place).resolve()) if is_file else place
    return Target(server, f"{where}:{found}")


def _split_target(text: str) -> tuple[str, str]:
    place, colon, name = text.rpartition(":")
    if not colon or not all(part.isidentifier() for part in name.split(".")):
        return text.removesuffix(":"), ""
    return place, name


def _from_file(place: str) -> ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise SetupError(f"{place} {what}; a target is path/to/file.py:name or package.module:name")
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SetupError(f"{place} is no Python file; a target is path/to/file.py:name")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the target's own code
        raise _broken_target(place, error) from error
    return module


def _module_name(path: Path) -> str:
    """Return the name that a file is loaded under; what is beside it can be imported from then on.

    Its own where that can be: a sibling's `import server` finds this very module then, and so does
    a process of a pool that is told a function by the name of its module. A dash is no obstacle
    for either.
    """
    name = path.stem
    if name not in sys.modules and "." not in name:
        sys.path.insert(0, str(path.parent))
        return name
    # It is called like a package that is in use. Others will import that one, also in processes
    # which have not loaded it yet: there it must come first.
    sys.path.append(str(path.parent))
    name = "headway_target_" + re.sub(r"\W", "_", name)
    _make_importable(name, path)
    return name


def _make_importable(name: str, path: Path) -> None:
    """Have processes of pools (`spawn`, `forkserver`) find a file by a name that is not its own.

    They get our `sys.path` and nothing else, so it has to lead to a file of that name.
    """
    with suppress(OSError):  # nowhere to write: then only such pools do without
        directory = tempfile.mkdtemp(prefix="headway-target-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        text = "__file__ = {!r}\nexec(compile(open(__file__, 'rb').read(), __file__, 'exec'))\n"
        (Path(directory) / f"{name}.py").write_text(text.format(str(path)), "utf-8")
        sys.path.append(directory)


def _from_name(place: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise SetupError(
            f"{place!r} names nothing; a target is path/to/file.py:name or package.module:name"
        )
    _add_current_directory(place.partition(".")[0])
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and f"{place}.".startswith(f"{error.name}."):
            raise SetupError(
                f"there is no module {error.name!r} here or installed; "
                "a file is named with its path, as in path/to/file.py:name"
            ) from error
        raise _broken_target(place, error) from error
    except (Exception, SystemExit) as error:  # the target's own code
        raise _broken_target(place, error) from error


def _add_current_directory(package: str) -> None:
    """Import from the current directory where the target lies in it, and else not at all."""
    here = str(Path.cwd())
    if PathFinder.find_spec(package, [here]) is not None:
        sys.path.insert(0, here)


def _broken_target(place: str, error: BaseException) -> SetupError:
    if isinstance(error, SystemExit):
        return SetupError(
            f"{place} exits while it is imported; put what starts it under "
            'if __name__ == "__main__":'
        )
    return Broken(f"{place} cannot be imported: {type(error).__name__}: {error}")


def _pick_server(module: ModuleType, place: str, name: str) -> tuple[str, object]:
    servers = {key: value for key, value in vars(module).items() if is_server(value)}
    if name:
        return name, _named_server(module, place, name, servers)
    if len({id(value) for value in servers.values()}) == 1:
        return next(iter(servers.items()))
    for usual in USUAL:
        if usual in servers:
            return usual, servers[usual]
    if not servers:
        raise SetupError(f"{place} has no MCP server at its top level; name one, as in {place}:mcp")
    raise SetupError(f"{place} has several servers; name one: {_list_names(place, servers)}")


def _named_server(module: ModuleType, place: str, name: str, servers: dict[str, object]) -> object:
    value: object = module
    for part in name.split("."):
        if not hasattr(value, part):
            there = (
                f"it has {_list_names(place, servers)}" if servers else "it has no server at all"
            )
            raise SetupError(f"{place} has no {name!r}; {there}")
        value = getattr(value, part)
    try:
        inspect_server(value)
    except SetupError as error:
        also = f"; {place} has {_list_names(place, servers)}" if servers else ""
        raise SetupError(f"{place}:{name} cannot be served: {error}{also}") from error
    return value


def _list_names(place: str, servers: dict[str, object]) -> str:
    return ", ".join(f"{place}:{name}" for name in servers)

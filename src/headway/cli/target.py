"""TARGET: from `path/to/file.py:name` or `package.module:name` to the server it names.

The name may also be that of a function without arguments that returns the server. A URL names the
server that is there, which FastMCP's proxy stands for.

This module must not know what makes an object a server: `headway.server` does.
"""

import atexit
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from headway.cli.exit_codes import Broken
from headway.client_config import name_for_url
from headway.errors import SetupError
from headway.server import inspect_server

USUAL = ("mcp", "server", "app")
"""The names that win where a module has several servers and the target names none."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server and where it came from."""

    server: object
    identity: str
    """A text that is the same for the same target on every start, whatever the working directory.
    """


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
        SetupError: There is no such server; the text says what is there instead.
        Broken: The module raised while it was imported.
    """
    if is_url(text):
        return Target(_proxy_for(text), text)
    place, name = _split_target(text)
    is_file = place.endswith(".py") or os.sep in place or Path(place).is_file()
    module = _from_file(place) if is_file else _from_name(place)
    found, server = _pick_server(module, place, name)
    where = str(Path(place).resolve()) if is_file else place
    return Target(server, f"{where}:{found}")


def is_url(text: str) -> bool:
    """Return whether a target is the URL of a server that runs somewhere."""
    return text.startswith(("http://", "https://"))


def _proxy_for(url: str) -> object:
    """Return a server that hands everything on to the one at a URL.

    Raises:
        SetupError: FastMCP, whose proxy it is, is not installed, or that is no URL.
    """
    try:
        if not urlsplit(url).hostname:
            raise SetupError(f"{url!r} is no URL of a server; write http://host:port/mcp")
        from fastmcp.server import create_proxy
    except ModuleNotFoundError as error:
        text = "serving what is at a URL needs FastMCP: pip install 'headway[fastmcp]'"
        raise SetupError(text) from error
    except ValueError as error:
        raise SetupError(f"{url!r} is no URL of a server: {error}") from error
    return create_proxy(url, name=name_for_url(url))


def directory_of(target: Target) -> Path:
    """Return the directory with the code of a target: that of its file, or of its package."""
    place, _ = _split_target(target.identity)
    if Path(place).is_file():
        return Path(place).parent
    package = sys.modules[place.partition(".")[0]]
    own: list[str] = list(getattr(package, "__path__", []))
    return Path(own[0]) if own else Path(package.__file__ or ".").parent


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
    """Return the name under which a file is loaded; files beside it can be imported from then on.

    It is the file's own name where possible. Then a sibling's `import server` finds this very
    module, and so does a process of a pool that gets a function by the name of its module. A dash
    is no obstacle for either.
    """
    name = path.stem
    if name not in sys.modules and "." not in name:
        sys.path.insert(0, str(path.parent))
        return name
    # The file has the name of a package that is in use. Other code will import that package, also
    # in processes which have not loaded it yet: there the package must come first.
    sys.path.append(str(path.parent))
    name = "headway_target_" + re.sub(r"\W", "_", name)
    _make_importable(name, path)
    return name


def _make_importable(name: str, path: Path) -> None:
    """Let processes of pools (`spawn`, `forkserver`) find a file by a name that is not its own.

    They get our `sys.path` and nothing else, so that path has to lead to a file of that name.
    """
    with suppress(OSError):  # no directory can be written: only such pools do not find the file
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
    """Allow imports from the current directory if the target lies in it, and only then."""
    here = str(Path.cwd())
    if PathFinder.find_spec(package, [here]) is not None:
        sys.path.insert(0, here)


def _broken_target(place: str, error: BaseException) -> SetupError:
    if isinstance(error, SystemExit):
        return SetupError(
            f"{place} exits while it is imported; put what starts it under "
            'if __name__ == "__main__":'
        )
    return Broken(
        f"{place} cannot be imported: {type(error).__name__}: {error}{_version_hint(error)}"
    )


def _version_hint(error: BaseException) -> str:
    """Return what to install, where a FastMCP is there that cannot be beside this SDK."""
    with suppress(PackageNotFoundError):
        found = version("fastmcp")
        if isinstance(error, ImportError) and found.split(".")[0] in ("0", "1", "2", "3"):
            return (
                f"; fastmcp {found} is installed, which needs another mcp than {version('mcp')}: "
                "pip install 'headway[fastmcp]'"
            )
    return ""


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
    if inspect.isroutine(value) and not is_server(value):
        value = _call_factory(f"{place}:{name}", value)
    try:
        inspect_server(value)
    except SetupError as error:
        also = f"; {place} has {_list_names(place, servers)}" if servers else ""
        raise SetupError(f"{place}:{name} cannot be served: {error}{also}") from error
    return value


def _call_factory(target: str, factory: Callable[..., object]) -> object:
    """Return the server that a function makes.

    Raises:
        SetupError: It needs arguments, or is async.
        Broken: It raised.
    """
    if inspect.iscoroutinefunction(factory):
        raise SetupError(f"{target} is async; name a plain function that returns the server")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise SetupError(
            f"{target} cannot be served: it is called without arguments, and is {error}"
        ) from None
    except ValueError:  # a function in C that does not say
        pass
    try:
        return factory()
    except (Exception, SystemExit) as error:  # the target's own code
        raise _broken_target(target, error) from error


def _list_names(place: str, servers: dict[str, object]) -> str:
    return ", ".join(f"{place}:{name}" for name in servers)

"""One more server in a client's configuration file, with everything in it kept as it is.

The new entry is put into the text; nothing else of it is written anew, so that comments, spaces and
the order of keys stay. What comes out is read again before it replaces the file.
"""

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from headway.cli.exit_codes import Refused
from headway.client_config import ClientConfig, Entry, toml_table
from headway.errors import SetupError

INDENT: Final = "  "
_SPACE: Final = re.compile(r"[ \t\r\n]*")


class _JsonTable(NamedTuple):
    """Where an object of a JSON text has what, as positions in the text."""

    begin: int
    values: dict[str, int]
    """Where the value of each key begins."""
    last: int
    """The end of its last value."""
    end: int
    """Its closing brace."""


def write_entry(client: ClientConfig, file: Path, name: str, entry: Entry) -> bool:
    """Add a server to a client's file; False where it is there already, as it should be.

    Raises:
        Refused: The file is not what it should be, or has another server of this name.
        SetupError: It cannot be read or written.
    """
    place = file.resolve()  # many are links to a directory under version control
    text = _read_text(place)
    values = _parse(client, file, text)
    known = _servers_in(client, file, values)
    if known.get(name) == entry:
        return False
    if name in known:
        raise Refused(f"{file} has another server {name!r}; choose a --name, or take that one out")
    changed = _ADDING[client.form](text, client.table, name, entry)
    if _parse(client, file, changed) != {**values, client.table: {**known, name: entry}}:
        raise Refused(f"{file} is written in a way that cannot be added to; paste it by hand")
    replace_file(place, changed)
    return True


def read_servers(client: ClientConfig, file: Path) -> Mapping[str, Any]:
    """Return the servers of a client's file, by their names; none where there is no file.

    Raises:
        Refused: The file is not what it should be.
        SetupError: It cannot be read.
    """
    return _servers_in(client, file, _parse(client, file, _read_text(file.resolve())))


def _servers_in(client: ClientConfig, file: Path, values: Mapping[str, Any]) -> Mapping[str, Any]:
    servers: Any = values.get(client.table, {})
    if not isinstance(servers, dict):
        raise Refused(f"{client.table!r} in {file} is no table, and the file stays as it is")
    return cast("Mapping[str, Any]", servers)


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not UTF-8, and stays as it is") from error
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror}") from error


def _parse(client: ClientConfig, file: Path, text: str) -> dict[str, Any]:
    try:
        values: Any = _PARSERS[client.form](text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        kind = client.form.upper()
        raise Refused(f"{file} is no {kind}, and stays as it is: {error}") from error
    if not isinstance(values, dict):
        raise Refused(f"{file} is no table of settings, and stays as it is")
    return cast("dict[str, Any]", values)


def _add_to_json(text: str, table: str, name: str, entry: Entry) -> str:
    text = text if text.strip() else "{}\n"
    whole = _look_at(text, _SPACE.match(text).end())  # pyright: ignore[reportOptionalMemberAccess]
    if table not in whole.values:
        return _add_member(text, whole, table, {name: entry}, INDENT)
    return _add_member(text, _look_at(text, whole.values[table]), name, entry, INDENT * 2)


def _look_at(text: str, begin: int) -> _JsonTable:
    """Return what the object that begins here has; the text is known to be valid."""
    decoder, values, here = json.JSONDecoder(), dict[str, int](), begin + 1
    last = here
    while text[here := _skip_space(text, here)] != "}":
        here = _skip_space(text, here + (text[here] == ","))
        key, here = decoder.raw_decode(text, here)
        values[key] = _skip_space(text, _skip_space(text, here) + 1)
        _, here = decoder.raw_decode(text, values[key])
        last = here
    return _JsonTable(begin, values, last, here)


def _skip_space(text: str, here: int) -> int:
    found = _SPACE.match(text, here)
    return here if found is None else found.end()


def _add_member(text: str, there: _JsonTable, key: str, value: Any, indent: str) -> str:
    line = "\r\n" if "\r\n" in text else "\n"
    shown = json.dumps({key: value}, ensure_ascii=False, indent=INDENT)[2:-2]  # without its braces
    shown = line.join(indent + each.removeprefix(INDENT) for each in shown.splitlines())
    if there.values:
        return f"{text[: there.last]},{line}{shown}{text[there.last :]}"
    outer = indent.removeprefix(INDENT)
    return f"{text[: there.begin + 1]}{line}{shown}{line}{outer}{text[there.end :]}"


def _add_to_toml(text: str, table: str, name: str, entry: Entry) -> str:
    gap = "" if not text.strip() else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{gap}{toml_table(table, name, entry)}\n"


def replace_file(file: Path, text: str) -> None:
    """Put a text in the place of a file at once: nobody ever reads half of it.

    The file keeps its mode; a new one, and its new directory, is its owner's alone.

    Raises:
        SetupError: It cannot be written.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(text.encode())
                opened.flush()
                os.fsync(opened.fileno())
            Path(new).chmod(_mode_of(file))
            Path(new).replace(file)
        except BaseException:
            with suppress(OSError):
                Path(new).unlink()
            raise
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}") from error


def _mode_of(file: Path) -> int:
    """Return the mode of a file; for its owner alone where there is none, as it may get tokens."""
    try:
        return file.stat().st_mode & 0o7777
    except FileNotFoundError:
        return 0o600


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {"json": json.loads, "toml": tomllib.loads}

_ADDING: Final[Mapping[str, Callable[[str, str, str, Entry], str]]] = {
    "json": _add_to_json,
    "toml": _add_to_toml,
}

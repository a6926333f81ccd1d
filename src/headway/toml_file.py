"""A TOML file that people write: read whole, and every mistake named with its line."""

import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from headway.errors import SetupError
from headway.toml_lines import Key, line_of

Mistake = tuple[tuple[Key, ...], str]
"""Where, as the keys that lead there, and what."""

VARIABLE = re.compile(r"\$\{(\w+)\}")
"""An environment variable in a text."""


class ConfigError(SetupError):
    """The configuration cannot be used; the text names every mistake."""


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A file, its text and its values."""

    file: Path
    text: str
    values: dict[str, Any]

    @property
    def directory(self) -> Path:
        """Where relative paths in the file begin."""
        return self.file.absolute().parent

    def check(self, mistakes: Iterable[Mistake]) -> None:
        """See that there are no mistakes.

        Raises:
            ConfigError: There are some; it names each with its line.
        """
        lines: list[tuple[int, str]] = []
        for place, what in mistakes:
            keys = _plain_keys(self.values, place)
            lines.append((line_of(self.text, keys), f"{'.'.join(map(str, keys))}: {what}"))
        if not lines:
            return
        listed = "\n".join(f"  {self.file}:{line}: {what}" for line, what in sorted(lines))
        count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        raise ConfigError(f"{self.file} has {count}:\n{listed}")


def read_toml(file: Path) -> TomlFile:
    """Return a file's values.

    Raises:
        ConfigError: It cannot be read, or is no TOML.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    try:
        return TomlFile(file, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_explain_parse_error(file, str(error))) from error


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return what to say of a key that does not exist, where `known` are those that do."""
    return f"there is no such key{guess_name(key, known, 'there are')}"


def guess_name(name: str, known: Iterable[str], others: str = "it has") -> str:
    """Return the end of a sentence about a name that nobody has: the one that is meant, or all."""
    names = list(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; {others} {', '.join(names)}" if names else ""


def expand_variables(text: str) -> str:
    """Return a text with the values of the environment variables that it names as `${NAME}`.

    Raises:
        ValueError: One of them is not set.
    """
    for name in VARIABLE.findall(text):
        if name not in os.environ:
            raise ValueError(f"the environment variable {name} is not set")
    return VARIABLE.sub(lambda found: os.environ[found[1]], text)


def resolve_sqlite(url: str, base: Path) -> str:
    """Return a database's URL; a relative SQLite file is taken to be in `base`."""
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:?][^?]*)(\?.*)?", url)
    if relative is None:
        return url
    return f"{relative[1]}{base / relative[2]}{relative[3] or ''}"


def _explain_parse_error(file: Path, error: str) -> str:
    """Return the parser's message, with the line where all other mistakes have it."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", error, re.DOTALL)
    if found is None:
        return f"{file}: {error}"
    return f"{file}:{found[2]}: {found[1]} (column {found[3]})"


def _plain_keys(raw: Any, place: tuple[Key, ...]) -> list[Key]:
    """Return the keys of a place without what the schema alone knows, such as a union's branch."""
    keys: list[Key] = []
    value = raw
    for position, key in enumerate(place):
        is_last = position == len(place) - 1
        if isinstance(value, dict) and (key in value or is_last):
            keys.append(key)
            value = cast("dict[Any, Any]", value).get(key)
        elif isinstance(value, list) and isinstance(key, int):
            keys.append(key)
            value = cast("list[Any]", value)[key]
    return keys

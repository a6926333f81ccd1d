"""The keys of encrypted journals, as servers, workers and the commands of operators find them."""

import os
from pathlib import Path
from typing import Final

import typer

from headway.cli.config_option import config_of
from headway.encryption import Encryption

KEYS_VARIABLE: Final = "HEADWAY_ENCRYPTION_KEYS"

_CONFIG_VARIABLE: Final = "HEADWAY_CONFIG"


def chosen_encryption(context: typer.Context, keys: Path | None) -> Encryption | None:
    """Return the keys of a server's journal: those of `--encryption-keys`, or of `[encryption]`.

    Raises:
        SetupError: The file with the keys cannot be read, or has none.
    """
    return _with_keys(config_of(context).encryption, keys)


def readers_encryption() -> Encryption | None:
    """Return the keys for a command that looks into journals, from where servers have them.

    They are those of the variable, or of `[encryption]` in the configuration that a server would
    read here. What else is in that file is not looked at.

    Raises:
        SetupError: The file with the keys cannot be read, or has none.
    """
    keys = os.environ.get(KEYS_VARIABLE)
    return _with_keys(_section_here(), Path(keys) if keys else None)


def _section_here() -> Encryption | None:
    from headway.cli.config_file import ENCRYPTION_SECTION, USUAL_FILE
    from headway.toml_file import read_toml

    named = os.environ.get(_CONFIG_VARIABLE)
    file = Path(named) if named else USUAL_FILE
    if not file.is_file():
        return None
    toml = read_toml(file)
    if ENCRYPTION_SECTION not in toml.values:
        return None
    from headway.cli.encryption_section import parse_encryption

    found, mistakes = parse_encryption(toml)
    toml.check(mistakes)
    return found


def _with_keys(section: Encryption | None, keys: Path | None) -> Encryption | None:
    if keys is None:
        return section
    return Encryption.from_file(keys, plain="refuse" if section is None else section.plain)

"""`--log-config FILE`: logging as a file sets it up, in Python's own words."""

import json
import logging.config
import tomllib
from pathlib import Path
from typing import Any

from headway.errors import SetupError


def apply_log_config(path: Path) -> None:
    """Set up logging as a file says: JSON or TOML as `dictConfig` has it, INI as `fileConfig`.

    Loggers that exist already are not switched off, whatever the file says of them.

    Raises:
        SetupError: It cannot be read, or is wrong.
    """
    try:
        if path.suffix in (".json", ".toml"):
            known = _read_dict(path)
            known.setdefault("version", 1)
            logging.config.dictConfig({"disable_existing_loggers": False, **known})
        else:
            with path.open(encoding="utf-8") as lines:
                logging.config.fileConfig(lines, disable_existing_loggers=False)
    except OSError as error:
        raise SetupError(f"--log-config {path}: {error.strerror}") from error
    except Exception as error:  # of any kind: it makes what the file names
        told = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise SetupError(
            f"--log-config {path}: {told or type(error).__name__}; write what Python's "
            "logging.config takes, as .json, .toml or .ini"
        ) from error


def _read_dict(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)

"""The file of `--clients`: facts that an operator knows about clients, as TOML.

```toml
[[client]]
name = "reporting-agent*"   # clientInfo.name, in any case; * stands for anything
since = "2.1"               # from this version on
deadline = "2m"             # gives a silent call up after this
resets = true               # progress prolongs that
```
"""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from headway.client_profiles import Profile
from headway.errors import SetupError
from headway.settings import parse_duration

_FLAGS = ("sends_token", "resets", "resumes", "tasks")
_TEXTS = ("name", "since", "source")


def read_profiles(path: Path) -> tuple[Profile, ...]:
    """Return the rows of a file, in their order.

    Raises:
        SetupError: The text names the file, the row and what is wrong with it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(f"--clients {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"--clients {path} is no TOML: {error}") from None
    rows: object = document.pop("client", [])
    if document or not isinstance(rows, list):
        raise SetupError(f"--clients {path}: it holds [[client]] tables and nothing else")
    found: list[Profile] = []
    for number, row in enumerate(cast("list[object]", rows), 1):
        try:
            found.append(read_profile(row))
        except SetupError as error:
            raise SetupError(f"--clients {path}, client {number}: {error}") from None
    return tuple(found)


def read_profile(row: object) -> Profile:
    """Return the profile that one `[[client]]` table says.

    Raises:
        SetupError: The text says what is wrong with it.
    """
    values = dict(cast("dict[str, Any]", row)) if isinstance(row, dict) else {}
    known = [field.name for field in fields(Profile)]
    for name, value in values.items():
        if name not in known:
            raise SetupError(f"{name!r} is not known; there are {', '.join(known)}")
        if name in _FLAGS and not isinstance(value, bool):
            raise SetupError(f"{name} must be true or false, not {value!r}")
        if name in _TEXTS and not isinstance(value, str):
            raise SetupError(f"{name} must be a text, not {value!r}")
    if not values.get("name"):
        raise SetupError("name is missing: the clientInfo.name it is about")
    if "deadline" in values:
        values["deadline"] = parse_duration(values["deadline"])
    return Profile(**values)

"""What stands in an audit log."""

import json
import os
import stat
from pathlib import Path
from typing import Any


def records_in(file: Path, event: str | None = None) -> list[dict[str, Any]]:
    """All records of a file, or those of one event."""
    lines = file.read_text().splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines]
    return [each for each in records if event in (None, each["event"])]


def text_in(file: Path) -> str:
    """All of a file."""
    return file.read_text()


def mode_of(file: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(file.stat().st_mode)


def make_file(file: Path, text: str = "", mode: int = 0o600) -> None:
    """Put a file there."""
    file.write_text(text)
    file.chmod(mode)


def rotate(file: Path, how: str) -> Path:
    """Rotate a log; gives the place of the old one, if it has one."""
    moved = file.with_suffix(".1")
    if how == "renamed":
        file.rename(moved)
    elif how == "removed":
        file.unlink()
    else:
        os.truncate(file, 0)
    return moved

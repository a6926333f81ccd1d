"""`headway journal key`: a key that journals are encrypted with."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headway.cli.exit_codes import report_line
from headway.encryption import Encryption, new_key, shown_id
from headway.errors import SetupError
from headway.private_files import create_private

Into = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Add the key to this file, below those that it has, instead of showing it.",
    ),
]


def key(into: Into = None) -> None:
    """Make a key for encrypted journals: a line of the file that [encryption] names."""
    made = new_key()
    line = f"{made}  # {shown_id(made)}, made {datetime.now(UTC):%Y-%m-%d}"
    if into is None:
        print(line)
        return
    count = _add_line(into, line)
    if count == 1:
        report_line(f"{into} has the key {shown_id(made)}, which encrypts; keep a copy elsewhere")
    else:
        report_line(
            f"{into} has the key {shown_id(made)} as its last, which decrypts; when all processes "
            "have it, move it to the top"
        )


def _add_line(file: Path, line: str) -> int:
    """Write a key at the end of a file; return how many it has then.

    Raises:
        SetupError: The file has something else, or cannot be written.
    """
    try:
        create_private(file)
        before = file.read_text(encoding="utf-8")
        if before.strip():
            Encryption.from_file(file)
        with file.open("a", encoding="utf-8") as opened:
            gap = "" if before.endswith("\n") or not before else "\n"
            opened.write(f"{gap}{line}\n")
            opened.flush()
            os.fsync(opened.fileno())  # what it encrypts is lost without it
        return len(Encryption.from_file(file).keys)
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}") from error
    except UnicodeError as error:
        raise SetupError(f"{file} cannot be read: it is no text") from error

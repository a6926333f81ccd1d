"""`headway token NAME`: a token for `[auth]`, and the table that lets it in."""

import hashlib
import re
import secrets
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headway.cli.exit_codes import Refused, report_line
from headway.cli.local_token import TOKEN_PREFIX
from headway.errors import SetupError

Name = Annotated[
    str, typer.Argument(help="Whose it is, as the log and headway runs will say: ci, alice.")
]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", metavar="SCOPE", help="What it is good for. May be repeated."),
]
Expires = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The day from which it is not good."
    ),
]
Into = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Add the table to this file, instead of showing it."),
]


def token(name: Name, scope: Scopes = None, expires: Expires = None, into: Into = None) -> None:
    """Make a token: it goes to stdout, once; its hash goes into the configuration."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise Refused(f"{name!r} is no name for a token: letters, digits, - and _, at most 64")
    if expires is not None and expires.replace(tzinfo=UTC) <= datetime.now(UTC):
        raise Refused(f"--expires {expires:%Y-%m-%d} has passed")
    made = TOKEN_PREFIX + secrets.token_urlsafe(32)
    table = token_table(name, made, scope or [], expires)
    if into is not None:
        _add_to(into, name, table)
        report_line(f"{into} has [auth.tokens.{name}]; the token is shown this once")
    else:
        print(table, file=sys.stderr)
    print(made)


def token_table(name: str, made: str, scopes: list[str], expires: datetime | None) -> str:
    """Return the table of a token, as TOML."""
    lines = [f"[auth.tokens.{name}]", f'sha256 = "{hashlib.sha256(made.encode()).hexdigest()}"']
    if scopes:
        lines.append(f"scopes = [{', '.join(map(_quoted, scopes))}]")
    if expires is not None:
        lines.append(f"expires = {expires:%Y-%m-%d}")
    return "\n".join(lines)


def _quoted(scope: str) -> str:
    from headway.tokens import check_scope  # it needs the SDK, which takes a second to import

    try:
        return f'"{check_scope(scope)}"'
    except ValueError as error:
        raise Refused(f"--scope {error}") from error


def _add_to(file: Path, name: str, table: str) -> None:
    """Write a table at the end of a file; all that is there stays.

    Raises:
        SetupError: It has one of that name, is no TOML, or cannot be written.
    """
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        gap = "\n" if before.endswith("\n") else "\n\n" if before else ""
        # Where the whole is no TOML, the file was none before, or has a table of this name.
        tomllib.loads(f"{before}{gap}{table}\n")
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"{gap}{table}\n")
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}") from error
    except UnicodeError as error:
        raise SetupError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SetupError(
            f"{file} stays as it is: [auth.tokens.{name}] cannot be added ({error}); it may have "
            "that name already, or a mistake that headway check names"
        ) from error

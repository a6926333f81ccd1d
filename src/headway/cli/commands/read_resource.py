"""`headway read` and `headway prompt`: a resource of a server, and a prompt with its arguments."""

import base64
import binascii
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from headway.cli.commands.list_tools import (
    Auth,
    EraOption,
    Headers,
    Output,
    TargetOrUrl,
    headers_of,
)
from headway.cli.display.printable import one_line, plain
from headway.cli.display.result_text import texts_of
from headway.cli.exit_codes import Refused, ToolFailed

if TYPE_CHECKING:
    from mcp.client.client import Client
    from mcp_types import GetPromptResult, ReadResourceResult

T = TypeVar("T")

Into = Annotated[
    Path | None,
    typer.Option("--into", metavar="FILE", help="Write it into this new file, and not to stdout."),
]


def read(
    place: TargetOrUrl,
    uri: Annotated[str, typer.Argument(help="As `headway tools --resources` lists it.")],
    into: Into = None,
    era: EraOption = None,
    output: Output = "text",
    header: Headers = None,
    auth: Auth = None,
) -> None:
    """Read a resource of a server: its text or its bytes, as they are."""

    async def ask(client: "Client") -> "ReadResourceResult":
        return await client.read_resource(uri)

    result = _ask(
        place, ask, era=era, headers=headers_of(header, place), asks_login=auth is not None
    )
    if output == "json":
        data = f"{json.dumps(result.model_dump(by_alias=True, exclude_none=True, mode='json'))}\n"
        _write(data.encode(), into)
    else:
        _write(_contents_of(result), into)


def prompt(
    place: TargetOrUrl,
    name: Annotated[str, typer.Argument(help="As `headway tools --prompts` lists it.")],
    pairs: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments.")
    ] = None,
    era: EraOption = None,
    output: Output = "text",
    header: Headers = None,
    auth: Auth = None,
) -> None:
    """Fill in a prompt of a server, and print its messages."""
    arguments = _arguments_in(pairs or [])

    async def ask(client: "Client") -> "GetPromptResult":
        return await client.get_prompt(name, arguments)

    result = _ask(
        place, ask, era=era, headers=headers_of(header, place), asks_login=auth is not None
    )
    if output == "json":
        print(json.dumps(result.model_dump(by_alias=True, exclude_none=True, mode="json")))
        return
    lines = [f"{each.role}: {' '.join(texts_of([each.content]))}" for each in result.messages]
    print(plain("\n".join(lines)) if sys.stdout.isatty() else "\n".join(lines))


def _ask(
    place: str,
    ask: "Callable[[Client], Awaitable[T]]",
    *,
    era: EraOption,
    headers: Mapping[str, str],
    asks_login: bool,
) -> T:
    from headway.cli.client import peer
    from headway.cli.server.event_loop import run_until_done

    async def asked() -> T:
        async with peer.connect_peer(
            place, era=era, headers=headers, asks_login=asks_login
        ) as client:
            return await ask(client)

    return run_until_done(asked, loop="asyncio")


def _arguments_in(pairs: list[str]) -> dict[str, str]:
    found = dict[str, str]()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Refused(f"{one_line(pair)!r} is no argument; write name=value")
        found[name] = value
    return found


def _contents_of(result: "ReadResourceResult") -> bytes:
    """Return the bytes of all that a resource consists of; a text ends with a line break."""
    whole = b""
    for each in result.contents:
        text = getattr(each, "text", None)
        if isinstance(text, str):
            whole += text.encode("utf-8", "replace")
            whole += b"" if text.endswith("\n") else b"\n"
            continue
        try:
            whole += base64.b64decode(getattr(each, "blob", ""), validate=True)
        except binascii.Error as error:
            raise ToolFailed(f"{each.uri} is sent with bytes that are no base64") from error
    return whole


def _write(data: bytes, into: Path | None) -> None:
    """Write bytes to a new file, or stdout; a terminal gets text, without what it would obey."""
    if into is not None:
        try:
            with into.open("xb") as file:
                file.write(data)
        except OSError as error:
            raise Refused(f"{into} cannot be written: {error.strerror}") from error
    elif not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        try:
            print(plain(data.decode()), end="")
        except UnicodeDecodeError as error:
            text = f"it has {len(data):,} bytes that are no text; write them with --into FILE"
            raise Refused(text) from error

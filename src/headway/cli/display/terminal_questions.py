"""A tool's questions (elicitation), put to the person at the terminal."""

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from mcp.client.context import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from headway.cli.client.arguments import check_arguments, collect_arguments
from headway.cli.display.call_display import Display
from headway.cli.display.printable import one_line, plain
from headway.cli.exit_codes import Refused


class Questions:
    """Answers elicitations: asks on a terminal, and declines where there is none."""

    def __init__(self, screen: Display, terminal: asyncio.Lock) -> None:
        """`terminal` is held by who reads from it."""
        self._screen = screen
        self._terminal = terminal

    async def __call__(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        """Return the answer to one question."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            self._screen.line(f"declined, no terminal to ask on: {one_line(params.message)}")
            return ElicitResult(action="decline")
        async with self._terminal:
            with self._screen.aside():
                # Abandoned on Ctrl+C: a thread that reads a terminal cannot be interrupted.
                return await anyio.to_thread.run_sync(_ask_person, params, abandon_on_cancel=True)


def _ask_person(params: ElicitRequestParams) -> ElicitResult:
    _say_line(f"\n{plain(params.message)}")
    try:
        if not isinstance(params, ElicitRequestFormParams):
            _say_line(f"  {one_line(params.url)}")
            agreed = read_line("Open this address yourself; done? [y/N] ").lower() in ("y", "yes")
            return ElicitResult(action="accept" if agreed else "decline")
        content = _ask_form(params.requested_schema)
    except EOFError:
        return ElicitResult(action="cancel")
    if content is None:
        return ElicitResult(action="decline")
    return ElicitResult(action="accept", content=content)


def _ask_form(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Ask the person for each property; return what they enter, or None when they decline."""
    properties: dict[str, Any] = schema.get("properties") or {}
    if not properties:
        return {} if read_line("Accept? [y/N] ").lower() in ("y", "yes") else None
    _say_line("(Enter alone takes the default; ! declines, Ctrl+D cancels)")
    content: dict[str, Any] = {}
    for name, part in properties.items():
        required = name in (schema.get("required") or ())
        value = _ask_field(name, part, required)
        if value is _DECLINED:
            return None
        if value is not None:
            content[name] = value
    return content


_DECLINED = object()


def _ask_field(name: str, part: Mapping[str, Any], required: bool) -> Any:
    prompt = f"{_field_label(name, part)}: "
    while True:
        text = read_line(prompt)
        if text == "!":
            return _DECLINED
        if not text:
            if "default" in part:
                return part["default"]
            if not required:
                return None
            continue
        try:
            value = _parse_entry(name, text, part)
            check_arguments(name, {name: value}, {"properties": {name: part}})
        except Refused as refusal:
            _say_line(f"  {refusal}")
            continue
        return value


def _parse_entry(name: str, text: str, part: Mapping[str, Any]) -> Any:
    if part.get("type") == "boolean" and text.lower() in ("y", "yes", "n", "no"):
        return text.lower().startswith("y")
    if part.get("type") == "array" and not text.startswith("["):
        return [item.strip() for item in text.split(",")]
    return collect_arguments([f"{name}={text}"], None, {"properties": {name: part}})[name]


def _field_label(name: str, part: Mapping[str, Any]) -> str:
    label = str(part.get("title") or name)
    if part.get("description"):
        label += f" ({part['description']})"
    choices = part.get("enum") or [c["const"] for c in part.get("oneOf", ()) if "const" in c]
    if choices:
        label += f" {{{', '.join(map(str, choices))}}}"
    elif part.get("type") == "boolean":
        label += " {y, n}"
    if "default" in part:
        label += f" [{json.dumps(part['default'], ensure_ascii=False)}]"
    return one_line(label)


def _say_line(text: str) -> None:
    print(plain(text), file=sys.stderr, flush=True)


def read_line(prompt: str) -> str:
    """Return a line from the terminal, asked for on stderr: stdout belongs to the result."""
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip()

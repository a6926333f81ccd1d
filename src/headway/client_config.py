"""The configuration by which other programs know a server: a row for each client, as data.

`headway install` prints these blocks and writes them, a browser that opens a server is shown them,
and docs/connect.md has each of them; a test compares.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

INSPECTOR: Final = "@modelcontextprotocol/inspector@2.12.0"
"""The Inspector's package and the version that `make interop` runs."""

LOOPBACK: Final = ("localhost", "127.0.0.1")
"""Hosts that mcp-remote takes without TLS."""

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A name that every client accepts for a server."""

Entry = dict[str, Any]
"""The entry of one server in a client's configuration."""


@dataclass(frozen=True, slots=True)
class StdioCommand:
    """A command that serves on stdin and stdout, as its client has to start it."""

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """One client: the form of its configuration, and where that is."""

    name: str
    title: str
    form: Literal["json", "toml", "command"]
    """`command`: there is no configuration; its user types a command."""
    of_url: Callable[[str], Entry]
    """Returns the entry for a server at a URL."""
    of_command: Callable[[StdioCommand], Entry] | None
    """Returns the entry for a server that the client starts; None where it starts none."""
    table: str = "mcpServers"
    """The key in whose value each server has an entry."""
    file: Callable[[], Path] | None = None
    """Returns the file with the configuration; None where there is none of its own."""

    def render(self, name: str, entry: Entry) -> str:
        """Return the whole block for one server, as its user may copy it."""
        return _FORMS[self.form](self.table, name, entry)


# The entries


def _with_type(url: str) -> Entry:
    return {"type": "http", "url": url}


def _with_url(url: str) -> Entry:
    return {"url": url}


def _with_http_url(url: str) -> Entry:
    return {"httpUrl": url}


def _through_mcp_remote(url: str) -> Entry:
    parts = urlsplit(url)
    is_trusted = parts.scheme == "https" or parts.hostname in LOOPBACK
    return _start("npx", "-y", "mcp-remote", url, *(() if is_trusted else ("--allow-http",)))


def _inspect_url(url: str) -> Entry:
    return _start("npx", "-y", INSPECTOR, "--transport", "http", "--server-url", url)


def _start(command: str, *arguments: str) -> Entry:
    return {"command": command, "args": list(arguments)}


def _started(command: StdioCommand) -> Entry:
    entry = _start(command.command, *command.arguments)
    return {**entry, "env": dict(command.environment)} if command.environment else entry


def _started_with_type(command: StdioCommand) -> Entry:
    return {"type": "stdio", **_started(command)}


def _inspect_command(command: StdioCommand) -> Entry:
    """Return a command for a shell; what follows `--` is the server's and not the Inspector's."""
    variables = [part for each in command.environment.items() for part in ("-e", "=".join(each))]
    words = tuple(takewhile(lambda each: not each.startswith("-"), command.arguments))
    options = ("--", *command.arguments[len(words) :])
    return _start("npx", "-y", INSPECTOR, *variables, command.command, *words, *options)


# The files


def _in_home(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


def _here(*parts: str) -> Callable[[], Path]:
    return lambda: Path.cwd().joinpath(*parts)


def _desktop_file() -> Path:
    homes = {
        "darwin": Path.home() / "Library" / "Application Support",
        "win32": Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"),
    }
    config = os.environ.get("XDG_CONFIG_HOME", "")
    other = Path(config) if Path(config).is_absolute() else Path.home() / ".config"
    return homes.get(sys.platform, other) / "Claude" / "claude_desktop_config.json"


def _codex_file() -> Path:
    return Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex") / "config.toml"


CLIENTS: Final = {
    row.name: row
    for row in (
        ClientConfig(
            "claude-code", "Claude Code", "json", _with_type, _started_with_type,
            file=_here(".mcp.json"),
        ),
        ClientConfig(
            # Its file takes programs only: what is at a URL comes through mcp-remote.
            "claude-desktop", "Claude Desktop", "json", _through_mcp_remote, _started,
            file=_desktop_file,
        ),
        ClientConfig(
            "vscode", "VS Code", "json", _with_type, _started_with_type, "servers",
            _here(".vscode", "mcp.json"),
        ),
        ClientConfig(
            "cursor", "Cursor", "json", _with_url, _started, file=_in_home(".cursor", "mcp.json")
        ),
        ClientConfig(
            "codex", "Codex", "toml", _with_url, _started, "mcp_servers", _codex_file
        ),
        ClientConfig(
            # Its `url` means the SSE transport of 2024.
            "gemini-cli", "Gemini CLI", "json", _with_http_url, _started,
            file=_in_home(".gemini", "settings.json"),
        ),
        ClientConfig("inspector", "MCP Inspector", "command", _inspect_url, _inspect_command),
        ClientConfig("mcp-remote", "mcp-remote", "json", _through_mcp_remote, None),
    )
}  # fmt: skip
"""The clients by the names that `headway install` takes. State of November 2026."""


# The forms


def toml_table(table: str, name: str, entry: Entry) -> str:
    """Return an entry as a table of TOML."""
    lines = [f"{key} = {_toml_value(value)}" for key, value in entry.items()]
    return "\n".join((f"[{table}.{name}]", *lines))


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        inside = ", ".join(f"{key} = {_toml_value(each)}" for key, each in pairs.items())
        return f"{{ {inside} }}"
    # A JSON text is one of TOML too, but for this one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _json_text(table: str, name: str, entry: Entry) -> str:
    return json.dumps({table: {name: entry}}, ensure_ascii=False, indent=2)


def _shell_command(_table: str, _name: str, entry: Entry) -> str:
    return shlex.join([entry["command"], *entry["args"]])


_FORMS: Final[dict[str, Callable[[str, str, Entry], str]]] = {
    "json": _json_text,
    "toml": toml_table,
    "command": _shell_command,
}


def usable_name(text: str) -> str:
    """Return a text as a name that every client accepts; `headway` where nothing is left of it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:64] or "headway"


def name_for_url(url: str) -> str:
    """Return a name for the server at a URL: its host's, or `headway` for one on this machine."""
    host = urlsplit(url).hostname or ""
    return "headway" if host in (*LOOPBACK, "::1") else usable_name(host)

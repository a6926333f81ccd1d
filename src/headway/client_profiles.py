"""Known clients, as data: it decides when a call is handed over, and nothing else.

A client is taken for what its `clientInfo` says. Nothing here decides what a client may do: a wrong
row costs a hand-over that comes too early or too late. An operator's own rows go before these
(`Settings.profiles`, `--clients`).
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of client. None: not known."""

    name: str
    """`clientInfo.name` in lower case; `*` stands for anything."""
    since: str = ""
    """The first version it is true of; empty: all."""
    sends_token: bool | None = None
    """It asks for progress by itself."""
    resets: bool | None = None
    """Progress prolongs its deadline."""
    deadline: float | None = None
    """Seconds after which it gives a silent call up."""
    resumes: bool | None = None
    """It comes back to a 2025-11-25 stream that was closed early, and needs no answer before."""
    tasks: bool | None = None
    """It declares the tasks extension (2026-07-28) or asks for tasks (2025-11-25)."""
    source: str = ""
    """The source of these facts."""


UNKNOWN: Final = Profile("*")

PROFILES: Final = (
    Profile(
        "claude-code", "2.1.319", sends_token=True, resets=True, deadline=300.0, tasks=True,
        source="laurigates/claude-plugins#2059, anthropics/claude-code#93143",
    ),
    Profile(
        "claude-code", sends_token=True, resets=True, deadline=300.0, tasks=False,
        source="laurigates/claude-plugins#2059, anthropics/claude-code#93143",
    ),
    Profile(
        "claude-ai", sends_token=False, resets=False, deadline=60.0, tasks=False,
        source="anthropics/claude-code#22542, anthropics/claude-ai-mcp#115",
    ),
    Profile(
        "visual studio code*", sends_token=True, resets=False, deadline=300.0,
        source="microsoft/vscode#244754, microsoft/vscode#261734",
    ),
    Profile(
        "cursor*", sends_token=True, resets=False, deadline=300.0, tasks=False,
        source="cursor/cursor#3510, ScriptedAlchemy/agent-bundle#550",
    ),
    Profile(
        "gemini-cli*", sends_token=True, deadline=60.0, tasks=False,
        source="google-gemini/gemini-cli#19046, google-gemini/gemini-cli#7324",
    ),
    Profile(
        "codex-mcp-client", "0.144", deadline=300.0, tasks=False, source="openai/codex#28234",
    ),
    Profile(
        "codex-mcp-client", deadline=60.0, tasks=False,
        source="openai/codex#5315, orbiqd/orbiqd-briefkit#13",
    ),
    Profile(
        "opencode", sends_token=True, resets=True, tasks=False, source="anomalyco/opencode#32477"
    ),
    Profile(
        "qwen-code*", sends_token=True, resets=True, deadline=300.0, tasks=False,
        source="QwenLM/qwen-code#6061",
    ),
    Profile(
        "headway", sends_token=True, resumes=True, tasks=True, source="headway.cli.client.tool_call"
    ),
    Profile(
        # The default name, which its user may change; no deadline unless its user sets one.
        # FastMCP's client has the same name.
        "mcp", resets=False, resumes=True, source="mcp.client.session, make interop",
    ),
    Profile("inspector-cli", sends_token=False, source="make interop"),
)  # fmt: skip
"""The first row that fits counts. State of November 2026; clients move monthly."""


@lru_cache(maxsize=256)
def profile_of(name: str, version: str, own: tuple[Profile, ...] = ()) -> Profile:
    """Return the profile of the client with this name and version; `own` rows go first."""
    for row in (*own, *PROFILES):
        is_named = fnmatchcase(name.lower(), row.name.lower())
        if is_named and version_numbers(version) >= version_numbers(row.since):
            return row
    return UNKNOWN


def version_numbers(version: str) -> tuple[int, ...]:
    """Return a version as a tuple that can be compared: `2.1.319-beta` is (2, 1, 319)."""
    release = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(number[:9]) for number in release[1].split(".")) if release else ()

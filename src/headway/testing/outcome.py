"""The outcome of a call, as plain values that read well in an assertion."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from mcp.server.mcpserver.exceptions import ToolError
from msgspec import Raw

from headway.engine.recovery.restart_state import RestartState
from headway.events import (
    Cancelled,
    Completed,
    Entry,
    Event,
    Failed,
    Interrupted,
    Log,
    Part,
    Progress,
    decode_json,
)
from headway.run_state import State, fold


class Reported(NamedTuple):
    """A progress message; equal to a tuple of the same three values."""

    progress: float
    total: float | None = None
    message: str | None = None


class Logged(NamedTuple):
    """A log message; equal to a tuple of the same three values."""

    level: str
    data: Any
    logger: str | None = None


@dataclass(slots=True)
class Said:
    """The messages of a tool while it worked, each kind in its order."""

    progress: list[Reported] = field(default_factory=list[Reported])
    logs: list[Logged] = field(default_factory=list[Logged])
    parts: list[Any] = field(default_factory=list[Any])
    """Parts as JSON has them: a model is a dict, an image its content block."""

    def add(self, event: Event) -> None:
        """Sort an event in."""
        match event:
            case Progress():
                self.progress.append(Reported(event.progress, event.total, event.message))
            case Log():
                self.logs.append(Logged(event.level, decode_json(event.data), event.logger))
            case Part():
                self.parts.append(decode_json(event.value))
            case _:
                pass


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one call of a tool."""

    state: State
    progress: list[Reported]
    logs: list[Logged]
    parts: list[Any]
    result: Any
    """The value that the tool returned, as JSON has it; None after an error. Without structured
    content it is the text, or a list of the content blocks where there is more than a text."""
    content: list[dict[str, Any]]
    """The content blocks, as on the wire."""
    structured: dict[str, Any] | None
    """The structured content, as on the wire: what is no object is in its `result`."""
    error: str | None
    """Why there is no result: the tool's own error, or how the run was stopped."""
    entries: list[Entry]
    """Everything, as it is in the journal."""
    memory: RestartState | None = None
    """The checkpoints that the next attempt would go on with, for a tool with `restart=True`."""
    kept: list[Raw] = field(default_factory=list[Raw])
    """The parts up to the last checkpoint, those of earlier attempts too."""

    @property
    def checkpoint(self) -> Any:
        """Return the value of the last `checkpoint`; None where there was none."""
        value = None if self.memory is None else self.memory.value
        return None if value is None else decode_json(value)

    @property
    def is_error(self) -> bool:
        """Return whether the call failed, in whatever way."""
        return self.error is not None


class ToolRunFailed(ToolError):
    """A tool that `run_tool` called failed; `outcome` is all that came of the call."""

    def __init__(self, tool: str, outcome: Outcome) -> None:
        super().__init__(f"{tool}: {outcome.error}")
        self.outcome = outcome


def outcome(entries: Iterable[Entry]) -> Outcome:
    """Return the outcome that the entries of a whole run add up to."""
    entries, said = list(entries), Said()
    for entry in entries:
        said.add(entry.event)
    view = fold(entries)
    answer = _answer_of(view.end)
    content = cast("list[dict[str, Any]]", answer.get("content", []))
    structured = cast("dict[str, Any] | None", answer.get("structuredContent"))
    error = _error_text(view.end)
    if answer.get("isError") is True:
        error = _content_text(content) or "the tool failed and said nothing"
    result = None if error is not None else _plain_value(content, structured)
    return Outcome(
        view.state,
        said.progress,
        said.logs,
        said.parts,
        result,
        content,
        structured,
        error,
        entries,
    )


def _answer_of(end: Event | None) -> dict[str, Any]:
    return decode_json(end.result) if isinstance(end, Completed) else {}


def _error_text(end: Event | None) -> str | None:
    match end:
        case Failed():
            return end.message
        case Cancelled():
            return end.reason or f"cancelled by the {end.by}"
        case Interrupted():
            return end.reason
        case _:
            return None


def _content_text(content: list[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in content if block.get("type") == "text")


def _plain_value(content: list[dict[str, Any]], structured: dict[str, Any] | None) -> Any:
    """Return the value that a tool returned: what is no object travels as `{"result": value}`."""
    if structured is not None:
        return structured["result"] if structured.keys() == {"result"} else structured
    if all(block.get("type") == "text" for block in content):
        return _content_text(content) if content else None
    return content

"""What a tool has to say while it works: `part` and `log`."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, cast

import msgspec
from mcp_types import ContentBlock
from msgspec import Raw
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from headway.engine import current_run
from headway.events import encode_json
from headway.protocol.eras import LOG_LEVELS


def log(data: object, level: str = "info", *, logger: str | None = None) -> None:
    """Send a log message to the client, if it wants messages of this level.

    `data` is text or anything `part` takes; what JSON cannot hold is sent as its `str`.

    Raises:
        ValueError: `level` is none of MCP's eight levels.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    if level not in LOG_LEVELS:
        raise ValueError(f"level {level!r} is none of {', '.join(LOG_LEVELS)}")
    run = current_run.get()
    if run is not None:
        run.log(level, _loggable(data), logger)


def part(value: object) -> None:
    """Give out a partial result: it is an entry of the run at once, for whoever follows it.

    `value` is text, a number, a dict or a list, a dataclass, a pydantic model, a msgspec struct, a
    content block of MCP (a text, an image, a resource link …), or an `Image` or `Audio` of the SDK
    or FastMCP; also one inside the other. A block is sent as MCP has it in JSON, a path as text,
    bytes as base64. The tool's return value stands for itself: parts are not added to it.

    Raises:
        TypeError: JSON cannot hold the value.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    run = current_run.get()
    if run is not None:
        run.part(_encoded(value))


_HELPERS = ("to_image_content", "to_audio_content", "to_resource_content")
"""What the SDK's and FastMCP's helpers for content have in common."""


def _plain(value: Any) -> Any:
    """What JSON has for a value that the encoder does not know.

    Raises:
        TypeError: Nothing.
    """
    for name in _HELPERS:
        make = getattr(value, name, None)
        if make is not None:
            value = make()
    if isinstance(value, ContentBlock):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise TypeError(f"JSON cannot hold a {type(value).__qualname__}")


def _plain_or_text(value: Any) -> Any:
    try:
        return _plain(value)
    except (TypeError, PydanticSerializationError):
        return str(value)


_Hook = Callable[[Any], Any]
_encoders: dict[_Hook, Callable[[Any], bytes]] = {
    hook: msgspec.json.Encoder(enc_hook=hook).encode for hook in (_plain, _plain_or_text)
}


def _json(value: object, hook: _Hook) -> Raw:
    try:
        return Raw(_encoders[hook](value))
    except UnicodeEncodeError:  # a lone surrogate, as file names can hold
        return encode_json(msgspec.to_builtins(value, enc_hook=hook))


def _encoded(value: object) -> Raw:
    """A part as JSON.

    Raises:
        TypeError: The text names the type that is in the way.
    """
    try:
        return _json(value, _plain)
    except RecursionError:
        reason = "it is nested too deeply, or contains itself"
    except (TypeError, PydanticSerializationError) as error:
        reason = str(error)
    raise TypeError(
        f"part() cannot send this {type(value).__qualname__}: {reason}; give it text, numbers, "
        "lists, dicts, dataclasses, models or content blocks"
    )


def _loggable(data: object) -> object:
    """What a log message holds: it never fails for what it is about."""
    try:
        return data if isinstance(data, str) else _json(data, _plain_or_text)
    except (TypeError, RecursionError):
        return str(data)

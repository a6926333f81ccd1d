"""What authors hand to Headway, as JSON."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, cast

import msgspec
from mcp_types import ContentBlock
from msgspec import Raw
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from headway.events import encode_json

_HELPERS = ("to_image_content", "to_audio_content", "to_resource_content")
"""What the SDK's and FastMCP's helpers for content have in common."""


def plain(value: Any) -> Any:
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
        return plain(value)
    except (TypeError, PydanticSerializationError):
        return str(value)


_Hook = Callable[[Any], Any]
_encoders: dict[_Hook, Callable[[Any], bytes]] = {
    hook: msgspec.json.Encoder(enc_hook=hook).encode for hook in (plain, _plain_or_text)
}


def _json(value: object, hook: _Hook) -> Raw:
    try:
        return Raw(_encoders[hook](value))
    except UnicodeEncodeError:  # a lone surrogate, as file names can hold
        return encode_json(msgspec.to_builtins(value, enc_hook=hook))


def encode(value: object, taker: str) -> Raw:
    """A value as JSON; `taker` is the function that was given it.

    Raises:
        TypeError: The text names the type that is in the way.
    """
    try:
        return _json(value, plain)
    except RecursionError:
        reason = "it is nested too deeply, or contains itself"
    except (TypeError, PydanticSerializationError) as error:
        reason = str(error)
    raise TypeError(
        f"{taker}() cannot take this {type(value).__qualname__}: {reason}; give it text, numbers, "
        "lists, dicts, dataclasses, models or content blocks"
    )


def loggable(data: object) -> object:
    """What a log message holds: it never fails for what it is about."""
    try:
        return data if isinstance(data, str) else _json(data, _plain_or_text)
    except (TypeError, RecursionError):
        return str(data)

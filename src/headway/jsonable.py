"""JSON of what Python's plain types hold, and of texts that UTF-8 has no bytes for."""

from typing import Any, cast

import msgspec
from msgspec import Raw, Struct


def as_base_type(value: object) -> object:
    """Return a subclass of text or of a number as its base class; JSON knows no others.

    Libraries have their own: `numpy.float64` and `numpy.str_`, `str` with a mark that it is safe.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"JSON cannot hold a {type(value).__qualname__}")


def exact_text(value: object) -> str:
    """Return the text of any value; of a subclass of `str` what it holds, not what it shows."""
    return str.__str__(value) if isinstance(value, str) else str(value)


_encoder = msgspec.json.Encoder(enc_hook=as_base_type)


def encode_json(value: object) -> Raw:
    """Any JSON value as bytes. A lone surrogate (a file name can hold one) becomes U+FFFD.

    Raises:
        TypeError: The value is not JSON and nothing JSON can be made of it.
    """
    try:
        return Raw(_encoder.encode(value))
    except UnicodeEncodeError:
        return Raw(_encoder.encode(without_surrogates(value)))


def decode_json(data: Raw | bytes) -> Any:
    """The value that `data` encodes."""
    return msgspec.json.decode(data)


def without_surrogates(value: object) -> object:
    """Return JSON with U+FFFD for each lone surrogate in its texts."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {without_surrogates(key): without_surrogates(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [without_surrogates(item) for item in cast("list[object]", value)]
    if isinstance(value, Struct):
        return without_surrogates(msgspec.to_builtins(value))
    return value

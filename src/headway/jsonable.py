"""JSON for Python's plain types and their subclasses, and for texts with lone surrogates."""

from typing import Any, cast

import msgspec
from msgspec import Raw, Struct


def as_base_type(value: object) -> object:
    """Return an instance of a subclass of `str`, `int` or `float` as one of the base class.

    msgspec encodes the exact types only. Libraries have subclasses: `numpy.float64`, `numpy.str_`,
    a `str` that is marked as safe HTML.

    Raises:
        TypeError: It is neither text nor a number.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"JSON cannot hold a {type(value).__qualname__}")


def exact_text(value: object) -> str:
    """Return the text of any value.

    An instance of a subclass of `str` becomes its content, whatever its own `__str__` returns.
    """
    return str.__str__(value) if isinstance(value, str) else str(value)


_encoder = msgspec.json.Encoder(enc_hook=as_base_type)


def encode_json(value: object) -> Raw:
    """Encode a JSON value. A lone surrogate, which a file name can hold, becomes U+FFFD.

    Raises:
        TypeError: The value has no JSON form.
    """
    try:
        return Raw(_encoder.encode(value))
    except UnicodeEncodeError:
        return Raw(_encoder.encode(without_surrogates(value)))


def decode_json(data: Raw | bytes) -> Any:
    """Return the value that `data` encodes."""
    return msgspec.json.decode(data)


def without_surrogates(value: object) -> object:
    """Return a JSON value with U+FFFD for each lone surrogate in its texts."""
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

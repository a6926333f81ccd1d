"""JSON for any value of a tool: one rule for parts, log messages, checkpoints and results.

msgspec knows the plain types: dicts, lists, sets, dataclasses, enums, dates, UUIDs, structs.
`to_plain` knows the rest, by what a value can do and not by the library that it comes from:

| value | JSON |
|---|---|
| a subclass of text, a number, bytes or a date | as its base class |
| NaN, infinity, `NaT`, `pandas.NA` | null |
| bytes | base64 (RFC 4648, section 4) |
| a lone surrogate in a text, as file names can hold | U+FFFD |
| a content block of MCP, an `Image`, an `Audio` | the block |
| a pydantic model | its own JSON; bytes in it as above, unless its config says how |
| a path | its text |
| what has keys, as `Mapping` and `sqlite3.Row` do | an object |
| a NumPy or Torch scalar or array, an Arrow scalar | what its `tolist` or `as_py` gives |
| an iterator, a view, a deque, a range, anything to iterate over | a list |
| anything else that pydantic knows, or that has a text of its own (`__str__`) | its text |

Everything else has no meaning outside of its process: a function, a lock, an object without a text.
"""

import functools
import operator
from base64 import b64encode
from collections import UserString
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, auto
from io import IOBase
from itertools import islice
from numbers import Integral, Rational, Real
from os import PathLike, fspath
from typing import Any, cast
from uuid import UUID

import msgspec
from mcp_types import ContentBlock
from msgspec import Raw
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from headway.jsonable import as_base_type, encode_json

MOST_ITEMS = 1_000_000
"""Items that are taken from an iterator, which may have no end."""

SHOWN_PATH = 200
"""Characters of the path to a value that cannot be encoded."""

_HELPERS = ("to_image_content", "to_audio_content", "to_resource_content")
"""Methods of the SDK's and FastMCP's helpers for content."""

_UNPACKERS = ("tolist", "as_py", "to_pylist")
"""Methods by which scalars and arrays of libraries become Python's own."""


def to_plain(value: Any) -> Any:
    """Return a plain value for one that msgspec does not know; iterators are refused.

    Raises:
        TypeError: JSON cannot hold the value.
    """
    if isinstance(value, BaseModel):  # first: a result may be thousands of them
        return _of_model(value)
    for convert in _RULES:
        made = convert(value)
        if made is not _NOT_MINE:
            return made
    raise TypeError(f"JSON cannot hold a {type(value).__qualname__}")


_NOT_MINE: Any = object()


def _kind_of(value: Any) -> type[Any]:
    return cast("type[Any]", type(value))


def _of_missing(value: Any) -> Any:
    """Return None for the marks of missing values in data frames, which cannot be compared."""
    return None if _kind_of(value).__name__ in ("NAType", "NaTType") else _NOT_MINE


def _of_base(value: Any) -> Any:
    """Return the base value of a subclass of a plain type.

    A bool or None comes here only as a key of a dict.
    """
    if value is None or isinstance(value, bool):
        return {None: "None", True: "true", False: "false"}[value]  # as pydantic has it
    if isinstance(value, str | int | float):
        return as_base_type(value)
    if isinstance(value, dict | list | tuple | set | frozenset):
        raise TypeError(f"a {_kind_of(value).__qualname__} cannot be a key of a JSON object")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return _NOT_MINE


def _of_time(value: Any) -> Any:
    match value:
        case datetime():
            return datetime.combine(
                date(value.year, value.month, value.day), value.timetz(), value.tzinfo
            )
        case date():
            return date(value.year, value.month, value.day)
        case time():
            return value.isoformat()
        case timedelta():
            return timedelta(value.days, value.seconds, value.microseconds)
        case Decimal() | UUID():
            return str(value)
        case _:
            return _NOT_MINE


def _of_model(value: BaseModel) -> Any:
    if isinstance(value, ContentBlock):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dump_by_schema(value, value.model_dump, type(value).__pydantic_core_schema__)


def _of_helper(value: Any) -> Any:
    for name in _HELPERS:
        make = getattr(_kind_of(value), name, None)
        if make is not None:
            value = make(value)
    return _of_model(value) if isinstance(value, BaseModel) else _NOT_MINE


def _of_text(value: Any) -> Any:
    if isinstance(value, PathLike):
        return fspath(cast("PathLike[str]", value))
    return value.data if isinstance(value, UserString) else _NOT_MINE


def _of_library(value: Any) -> Any:
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m"):
        # As text: nanoseconds would become bare numbers.
        return _without_nat(value.astype(str).tolist())
    for name in _UNPACKERS:
        unpack = getattr(_kind_of(value), name, None)
        if callable(unpack):
            made = unpack(value)
            if type(made) is not type(value):
                return made
    return _NOT_MINE


def _without_nat(times: object) -> object:
    if isinstance(times, list):
        return [_without_nat(each) for each in cast("list[object]", times)]
    return None if times == "NaT" else times


def _of_number(value: Any) -> Any:
    if isinstance(value, Integral) or hasattr(_kind_of(value), "__index__"):
        return operator.index(value)
    if isinstance(value, Rational):
        return str(value)
    return float(value) if isinstance(value, Real) else _NOT_MINE


def _of_items(value: Any) -> Any:
    kind = _kind_of(value)
    if isinstance(value, Mapping) or (hasattr(kind, "keys") and hasattr(kind, "__getitem__")):
        return dict(cast("Mapping[object, object]", value))
    if isinstance(value, Iterator | IOBase) or not isinstance(value, Iterable):
        return _NOT_MINE
    return _list_items(cast("Iterable[object]", value))


def _of_pydantic(value: Any) -> Any:
    if isinstance(value, Iterator | IOBase):
        return _NOT_MINE
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError):
        return _NOT_MINE


def _of_itself(value: Any) -> Any:
    return _NOT_MINE if type(value).__str__ is object.__str__ else str(value)


_RULES: tuple[Callable[[Any], Any], ...] = (
    _of_missing,
    _of_base,
    _of_time,
    _of_helper,
    _of_text,
    _of_library,
    _of_number,
    _of_items,
    _of_pydantic,
    _of_itself,
)


def _list_items(value: Iterable[object]) -> list[object]:
    items = list(islice(value, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        raise TypeError(f"there are more than {MOST_ITEMS:,} items in a {type(value).__qualname__}")
    return items


# Models


class Written(Enum):
    """The encoder for the values of a pydantic schema."""

    BY_US = auto()
    """The schema holds plain data, and says nothing of how it is serialized."""
    BY_PYDANTIC = auto()
    BY_BOTH = auto()
    """By pydantic, except for bytes, which it takes for UTF-8."""


def dump_by_schema(value: object, dump: Callable[..., Any], core_schema: Any) -> Any:
    """Serialize a value by its pydantic schema, to JSON values or to ones that msgspec knows.

    `dump` is the value's `model_dump`, or `dump_python` of an adapter bound to it.
    """
    way = _way_of(_Schema(core_schema))
    if way is Written.BY_US:
        return vars(value) if isinstance(value, BaseModel) else value
    as_json = functools.partial(
        dump, mode="json", by_alias=True, warnings=False, fallback=_to_builtins
    )
    as_python = functools.partial(dump, mode="python", by_alias=True, warnings=False)
    try:
        written = as_json()
    except (PydanticSerializationError, UnicodeDecodeError):  # bytes where anything may be
        return as_python()
    return written if way is Written.BY_PYDANTIC else _with_bytes(as_python(), written)


def _to_builtins(value: object) -> object:
    return msgspec.to_builtins(value, enc_hook=Hook())


def _with_bytes(raw: Any, written: Any) -> Any:
    """Return `written` with the bytes of `raw`, wherever both have the same structure."""
    if isinstance(raw, bytes) and isinstance(written, str):
        return raw
    if isinstance(raw, dict) and isinstance(written, dict):
        before, after = cast("dict[object, Any]", raw), cast("dict[object, Any]", written)
        if len(before) == len(after):
            pairs = zip(after.items(), before.values(), strict=True)
            return {key: _with_bytes(old, new) for (key, new), old in pairs}
    if isinstance(raw, list | tuple) and isinstance(written, list):
        olds, news = cast("list[Any]", raw), cast("list[Any]", written)
        if len(olds) == len(news):
            return [_with_bytes(old, new) for old, new in zip(olds, news, strict=True)]
    return cast("object", written)


class _Schema:
    """A core schema of pydantic as a dict key, compared by identity."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Schema) and self.schema is other.schema


_DATA = frozenset({
    "any", "bool", "dict", "float", "int", "list", "literal", "none", "nullable", "str", "tuple",
    "union",
})  # fmt: skip
"""Types of a core schema that say nothing of how a value is serialized."""


@functools.lru_cache(maxsize=1000)
def _way_of(schema: _Schema) -> Written:
    kinds = set(_schema_kinds(_within_wrapper(schema.schema)))
    if kinds <= _DATA:
        return Written.BY_US
    return Written.BY_BOTH if kinds & {"bytes", "any"} else Written.BY_PYDANTIC


def _within_wrapper(schema: Any) -> Any:
    """Return the schema inside of the model that the SDK wraps a non-object result in.

    Any other schema is returned as it is.
    """
    if schema.get("type") != "model" or schema["cls"].__bases__ != (BaseModel,):
        return schema
    fields: dict[str, Any] = schema["schema"].get("fields", {})
    field: dict[str, Any] = fields["result"] if list(fields) == ["result"] else {}
    says_more = (
        not field
        or field.keys() - {"type", "schema", "metadata"}
        or schema.get("config", {}).keys() - {"title"}
        or schema["schema"].get("computed_fields")
        or "serialization" in schema
    )
    return schema if says_more else field["schema"]


def _schema_kinds(schema: Any) -> Iterator[str]:
    """Yield the types in a core schema; `written` for those with a serializer of their own."""
    todo: list[tuple[Any, bool]] = [(schema, False)]
    while todo:
        node, says_how = todo.pop()
        if isinstance(node, dict):
            known = cast("dict[str, Any]", node)
            config = known.get("config")
            if isinstance(config, dict):
                says_how = "ser_json_bytes" in config
            kind = known.get("type")
            if isinstance(kind, str):
                is_said = "serialization" in known or (kind == "bytes" and says_how)
                yield "written" if is_said else kind
            todo += [(value, says_how) for name, value in known.items() if name != "metadata"]
        elif isinstance(node, list | tuple):
            todo += [(value, says_how) for value in cast("list[Any]", node)]


# Encoding


class Hook:
    """`to_plain` for one value; it consumes each iterator in it only once.

    A value may be encoded more than once: if there is a surrogate in it, or as text and as data.
    """

    __slots__ = ("iterated",)

    def __init__(self) -> None:
        self.iterated: dict[int, tuple[object, list[object]]] = {}

    def __call__(self, value: Any) -> Any:
        """Return a plain value for `value`.

        Raises:
            TypeError: JSON cannot hold it.
            Exception: Its own code raised.
        """
        if isinstance(value, Iterator) and not isinstance(value, IOBase):
            items = cast("Iterator[object]", value)
            if id(items) not in self.iterated:
                self.iterated[id(items)] = items, _list_items(items)
            return self.iterated[id(items)][1]
        return to_plain(value)


class LenientHook(Hook):
    """A `Hook` that never fails: it returns the text of a value that has no JSON form."""

    def __call__(self, value: Any) -> Any:
        """Return a plain value for `value`, or its text."""
        try:
            return super().__call__(value)
        except Exception:  # noqa: BLE001 - somebody's property, `__iter__` or serializer
            return text_of(value)


def text_of(value: object) -> str:
    """Return the text of a value; never raises, whatever its own code does."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - somebody's `__str__` or `__repr__`
        return f"<{type(value).__qualname__}>"


def to_json(value: object, hook: Callable[[Any], Any]) -> Raw:
    """Return a value as JSON.

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot hold the value.
        Exception: Code of the value itself raised.
    """
    try:
        return Raw(msgspec.json.Encoder(enc_hook=hook).encode(value))
    except UnicodeEncodeError:  # a lone surrogate, as file names can hold
        return encode_json(msgspec.to_builtins(value, enc_hook=hook))


def encode_value(value: object, taker: str) -> Raw:
    """Return a value as JSON; `taker` is the public function that got it, for the error.

    Raises:
        TypeError: The text names the path to what has no JSON form, and its type.
        Exception: Code of the value itself raised: an image has no file, say.
    """
    try:
        return to_json(value, Hook())
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{taker}() cannot take this {type(value).__qualname__}: {reason_for(value, error)}; "
            "give it text, numbers, lists, dicts, dataclasses, models or content blocks"
        ) from error


def as_loggable(data: object) -> object:
    """Return the data of a log message as text or JSON; never raises."""
    if type(data) is str:
        return data
    try:
        return to_json(data, LenientHook())
    except Exception:  # noqa: BLE001 - nested too deeply, or changed by another thread meanwhile
        return text_of(data)


# Naming what cannot be encoded


def reason_for(value: object, error: Exception) -> str:
    """Return why JSON cannot hold a value, with the path to the reason."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    path, error = _find_culprit(value, error)
    return f"{error} (at {path[:SHOWN_PATH]})" if path else str(error)


def _find_culprit(value: object, error: Exception) -> tuple[str, Exception]:
    """Return the path to the innermost value that cannot be encoded, and the exception for it."""
    path = ""
    for _ in range(100):  # deeper than a reader would follow
        for name, child in _children_of(value):
            try:
                to_json(child, Hook())
            except Exception as raised:  # noqa: BLE001 - as above, whatever it was
                path, value, error = path + name, child, raised
                break
        else:
            break
    return path.removeprefix("."), error


def _children_of(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            yield (f".{key}" if isinstance(key, str) else f"[{key!r}]"), item
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(cast("list[object]", value)):
            yield f"[{index}]", item
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield f".{name}", getattr(value, name, None)
    elif not isinstance(value, type):
        names: Iterable[str] = getattr(value, "__dataclass_fields__", None) or getattr(
            value, "__struct_fields__", ()
        )
        for name in names:
            yield f".{name}", getattr(value, name, None)

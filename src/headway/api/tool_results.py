"""The result that a client gets for the value that a `Headway` tool returns.

The SDK writes a result with pydantic, which fails for values that `part` takes: bytes, a file name
that is not UTF-8, the numbers of libraries. And it iterates an iterator twice. Here the value is
encoded by the one rule of `encoding`, pydantic gives it the form that the tool declares, and the
result is checked against the schema that the tool has published, as its client will do.
"""

import functools
from collections.abc import Iterator, Sequence
from io import IOBase
from itertools import islice
from typing import Any, NamedTuple, cast

import msgspec
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import CallToolResult, ContentBlock, InputRequiredResult, TextContent
from msgspec import Raw
from pydantic import BaseModel, PrivateAttr, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError

from headway.api.schema_fit import Mistake, SchemaFit
from headway.api.tool_schemas import ArgumentSchema, written_schema
from headway.api.unknown_arguments import check_names
from headway.encoding import MOST_ITEMS, Hook, dump_by_schema, reason_for, to_json, to_plain
from headway.jsonable import decode_json, without_surrogates

SHOWN = 3
"""Mistakes that an error names."""

LONGEST = 300
"""Characters for one of them."""

SETTLED = frozenset({str, int, float, bool, type(None), dict, list, tuple, bytes})
"""Types of most values that tools return: nothing is to be awaited or iterated for them."""

_CONTENT = ("to_image_content", "to_audio_content")


class ResultFailed(ToolError):
    """A tool returned a value that cannot be sent; the text says where and why."""


class ToolMetadata(FuncMetadata):
    """The SDK's metadata of a tool's function, with Headway's rules for arguments and results."""

    parameters: dict[str, Any]
    """The tool's input schema."""
    ignores_unknown: bool = False
    _form: "_Form | None" = PrivateAttr(default=None)

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """As in the SDK; names that the tool does not have are refused.

        Raises:
            ValidationError: The arguments do not fit.
        """
        parsed = self.pre_parse_json(arguments_to_validate)
        if not self.ignores_unknown:
            check_names(parsed, self.parameters, self.arg_model.__name__)
        return self.arg_model.model_validate(parsed).model_dump_one_level()

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """Return the result for the value that the tool returned.

        Raises:
            ResultFailed: It cannot be sent, or is not what the tool declares.
        """
        if isinstance(result, InputRequiredResult):
            return result
        try:
            if isinstance(result, CallToolResult):
                return self._check_own_result(result)
            return self._make_result(_Returned(result))
        except _Unfit as unfit:
            raise ResultFailed(f"the work is done, but {unfit}") from unfit.__cause__

    def _make_result(self, returned: "_Returned") -> CallToolResult:
        content = list(returned.content_blocks())
        if self.output_model is None or self.output_schema is None:
            return CallToolResult(content=content)
        form = self._current_form()
        structured = returned.structured_value(form.adapter, wrap=self.wrap_output)
        form.check_value(structured)
        return CallToolResult(content=content, structured_content=structured)

    def _check_own_result(self, result: CallToolResult) -> CallToolResult:
        """Check a result that the tool has made itself."""
        changes: dict[str, Any] = {}
        if result.structured_content is not None:
            changes["structured_content"] = decode_json(_Returned(result.structured_content).data)
        if result.meta is not None:
            changes["meta"] = decode_json(_Returned(result.meta).data)
        if self.output_schema is not None and not result.is_error:
            self._current_form().check_value(changes.get("structured_content"))
        return result.model_copy(update=changes) if changes else result

    def _current_form(self) -> "_Form":
        form, model, schema = self._form, self.output_model, self.output_schema
        # An author may give a tool another model or schema at any time.
        if form is None or form.model is not model or form.schema is not schema:
            adapter = self._output_adapter(object if model is None else model)
            self._form = form = _Form(model, schema, adapter, SchemaFit(schema or {}))
        return form


class _Form(NamedTuple):
    """The form of a tool's structured results."""

    model: Any
    schema: dict[str, Any] | None
    adapter: TypeAdapter[Any]
    fit: SchemaFit

    def check_value(self, structured: object) -> None:
        """Check that a value is what the tool has published.

        Raises:
            _Unfit: It is not.
        """
        found = self.fit.find_mistakes(structured)
        if found:
            raise _Unfit.from_mistakes(found)


class _Unfit(Exception):
    """A result cannot be sent; the text is the second half of a sentence that says why."""

    @classmethod
    def from_mistakes(cls, mistakes: Sequence[Mistake]) -> "_Unfit":
        """Return the error for the places where a result does not fit."""
        shown = "; ".join(_describe_mistake(each)[:LONGEST] for each in mistakes[:SHOWN])
        more = f"; and {len(mistakes) - SHOWN} more" if len(mistakes) > SHOWN else ""
        return cls(f"its result does not fit the tool's output schema: {shown}{more}")


class _Returned:
    """A value that a tool returned."""

    def __init__(self, value: object) -> None:
        self._hook = Hook()
        self._value = self._hook(value) if is_lazy(value) else value

    @property
    def data(self) -> Raw:
        """The value as JSON.

        Raises:
            _Unfit: JSON cannot hold it.
        """
        return self._encode_value(self._value)

    def _encode_value(self, value: object) -> Raw:
        try:
            return to_json(value, self._hook)
        except PydanticSerializationError:
            raise  # an author's serializer failed; its text is not for clients, as in the SDK
        except (TypeError, ValueError, RecursionError) as error:
            reason = reason_for(value, error)
            raise _Unfit(
                f"its result, a {type(value).__qualname__}, cannot be sent: {reason}"
            ) from error

    def content_blocks(self) -> Iterator[ContentBlock]:
        """Return the value as the SDK shows it to a model: each item of a list by itself.

        Raises:
            _Unfit: JSON cannot hold it.
        """
        yield from self._blocks_of(self._value)

    def _blocks_of(self, value: Any) -> Iterator[ContentBlock]:
        if value is None:
            return
        if type(value) is str and value.isascii():  # as most results are
            yield TextContent(type="text", text=value)
        elif isinstance(value, ContentBlock):
            yield value
        elif _maker_of(value) is not None:
            yield from self._blocks_of(_maker_of(value)(value))
        elif isinstance(value, list | tuple):
            for item in cast("list[Any]", value):
                yield from self._blocks_of(item)
        else:
            data = self._encode_value(value)
            text = decode_json(data) if isinstance(value, str) else _pretty_text(data)
            yield TextContent(type="text", text=text)

    def structured_value(self, adapter: TypeAdapter[Any], *, wrap: bool) -> Any:
        """Return the value as JSON, in the form that the tool declares.

        The value itself is tried first, so that models keep their type; then its JSON.

        Raises:
            _Unfit: It is something else than the tool declares.
        """
        first: _Unfit | None = None
        if not self._hook.iterated:
            try:
                return self._validate_and_dump(adapter, self._value, wrap=wrap)
            except _Unfit as unfit:
                first = unfit
        try:
            return self._validate_and_dump(adapter, self._as_builtins(), wrap=wrap)
        except _Unfit as unfit:
            raise (first or unfit) from unfit.__cause__

    def _as_builtins(self) -> object:
        """Return the value with only JSON's types in it, and NaN where a number is NaN."""
        return without_surrogates(msgspec.to_builtins(self._value, enc_hook=self._hook))

    def _validate_and_dump(self, adapter: TypeAdapter[Any], value: object, *, wrap: bool) -> Any:
        given = {"result": value} if wrap else value
        try:
            # The tool hands back Python's names; the wire has aliases.
            valid = adapter.validate_python(given, by_alias=True, by_name=True)
            made = (
                to_plain(valid)
                if isinstance(valid, BaseModel)
                else _dump_by_adapter(adapter, valid)
            )
        except ValidationError as error:
            raise _Unfit.from_mistakes(
                [_mistake_of(each) for each in error.errors(include_url=False)]
            ) from error
        except TypeError as error:
            raise _Unfit(f"its result cannot be sent: {error}") from error
        return decode_json(self._encode_value(made))


def _maker_of(value: Any) -> Any:
    """Return the method that makes a content block of an `Image` or `Audio`; else None."""
    if isinstance(value, BaseModel):
        return None
    kind = cast("type[Any]", type(value))
    return next((getattr(kind, name) for name in _CONTENT if hasattr(kind, name)), None)


def _pretty_text(data: Raw) -> str:
    return msgspec.json.format(bytes(data), indent=2).decode()


def _dump_by_adapter(adapter: TypeAdapter[Any], value: object) -> Any:
    return dump_by_schema(value, functools.partial(adapter.dump_python, value), adapter.core_schema)


def _mistake_of(error: Any) -> Mistake:
    return Mistake(tuple(error["loc"]), str(error["msg"]))


def _describe_mistake(mistake: Mistake) -> str:
    path = ".".join(map(str, mistake.path))
    return f"{path}: {mistake.reason}" if path else mistake.reason


# Registering


def is_lazy(value: object) -> bool:
    """Return whether a value is an iterator, whose work is still to be done; files are not."""
    if type(value) in SETTLED:
        return False
    return isinstance(value, Iterator) and not isinstance(value, IOBase)


def collect_values(values: Iterator[object]) -> list[object]:
    """Return the items of an iterator; called in the thread of a sync tool, which does the work.

    Raises:
        ResultFailed: It has more than `encoding.MOST_ITEMS` items.
    """
    items = list(islice(values, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        raise ResultFailed(f"the work is done, but its result has more than {MOST_ITEMS:,} items")
    return items


def _schema_of_sdk(metadata: FuncMetadata) -> dict[str, Any] | None:
    return FuncMetadata(
        arg_model=metadata.arg_model,
        output_model=metadata.output_model,
        wrap_output=metadata.wrap_output,
    ).output_schema


class Prepared(NamedTuple):
    """The metadata and input schema that replace those which the SDK made for a tool."""

    metadata: ToolMetadata
    parameters: dict[str, Any]


def prepare_function(
    metadata: FuncMetadata,
    parameters: dict[str, Any],
    *,
    ignores_unknown: bool,
    may_be_authors: bool = False,
) -> Prepared:
    """Return the metadata of a tool with Headway's rules, and its input schema.

    With `may_be_authors` a schema that the author wrote stays as it is: `parameters` and
    `metadata.output_schema` are replaced where they are what the SDK makes of the function.
    """
    if not may_be_authors or parameters == metadata.arg_model.model_json_schema(by_alias=True):
        generator = GenerateJsonSchema if ignores_unknown else ArgumentSchema
        parameters = metadata.arg_model.model_json_schema(by_alias=True, schema_generator=generator)
    model, wrap, schema = metadata.output_model, metadata.wrap_output, metadata.output_schema
    is_written = may_be_authors and schema != _schema_of_sdk(metadata)
    if model is not None and schema is not None and not is_written:
        if schema.get("type") != "object":  # a RootModel: a result has to be an object
            model, wrap = create_model(f"{metadata.arg_model.__name__}Output", result=model), True
        probe = FuncMetadata(arg_model=metadata.arg_model, output_schema=schema, output_model=model)
        schema = written_schema(probe._output_adapter(model)) or schema  # pyright: ignore[reportPrivateUsage]
    made = ToolMetadata(
        arg_model=metadata.arg_model,
        output_schema=schema,
        output_model=model,
        wrap_output=wrap,
        parameters=parameters,
        ignores_unknown=ignores_unknown,
    )
    return Prepared(made, parameters)

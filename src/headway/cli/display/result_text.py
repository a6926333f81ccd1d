"""A tool's result on stdout: for people, or as one JSON value."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

from headway.cli.display.printable import json_text, plain
from headway.cli.exit_codes import ToolFailed

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock


def print_result(result: "CallToolResult", output: Literal["text", "json"]) -> None:
    """Print a result.

    Raises:
        ToolFailed: It is an error; the text is the tool's.
    """
    if output == "json":
        body = result.model_dump(by_alias=True, exclude_none=True, mode="json")
        kept = "structuredContent" if "structuredContent" in body else "content"
        print(json_text({"isError": result.is_error, kept: body[kept]}, sys.stdout))
    elif not result.is_error:
        items = _repeated_list(result)
        texts = list(texts_of(result.content)) if items is None else []
        if items is not None:
            texts = [json_text(items, sys.stdout, indent=2)]
        elif not texts and result.structured_content is not None:
            texts = [json_text(result.structured_content, sys.stdout, indent=2)]
        print(_shown_text("\n".join(texts), sys.stdout.isatty()))
    check_result(result)


def asks_for_input(result: dict[str, Any]) -> bool:
    """Return whether a result only asks its client to call again, with answers (SEP-2322)."""
    return result.get("resultType", "complete") != "complete"


def print_kept_result(result: dict[str, Any], output: Literal["text", "json"]) -> None:
    """Print a result as a journal has it: one of a tool as `print_result` does, others as JSON.

    Raises:
        ToolFailed: It is an error, or only asks for input.
    """
    kept = call_result(result)
    if kept is not None:
        print_result(kept, output)
    else:
        print(json_text(result, sys.stdout, indent=2))


def call_result(result: dict[str, Any]) -> "CallToolResult | None":
    """Return the result of a tool's call; None for what another method has returned.

    Raises:
        ToolFailed: It only asks for input.
    """
    from mcp_types import CallToolResult
    from pydantic import ValidationError

    if asks_for_input(result):
        names = ", ".join(result.get("inputRequests") or {}) or "nothing that has a name"
        raise ToolFailed(
            f"it asks its client for input ({names}), and has no result: the client calls again "
            "with the answers, and that call is a run of its own"
        )
    try:
        return CallToolResult.model_validate(result)
    except ValidationError:
        return None


def check_result(result: "CallToolResult") -> None:
    """Raise the error that a result is.

    Raises:
        ToolFailed: It is one; the text is the tool's.
    """
    if result.is_error:
        text = "\n".join(texts_of(result.content)) or "the tool reported an error"
        raise ToolFailed(_shown_text(text, sys.stderr.isatty()))


def _repeated_list(result: "CallToolResult") -> list[Any] | None:
    """Return the list that a result is, where its content only repeats the items one by one.

    At 2025 the structured content is an object, so that a list is below `result` in it.
    """
    value: Any = result.structured_content
    if isinstance(value, dict) and list(cast("dict[str, Any]", value)) == ["result"]:
        value = cast("dict[str, Any]", value)["result"]
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    texts = [block.text for block in result.content if block.type == "text"]
    is_whole = len(texts) == len(result.content) == len(items)
    return items if is_whole and all(map(_says, texts, items)) else None


def _says(text: str, item: object) -> bool:
    """Return whether a block of text stands for an item."""
    if text == item:
        return True
    try:
        return json.loads(text) == item
    except ValueError:
        return False


def _shown_text(text: str, on_terminal: bool) -> str:
    """Return the text as it is for a file or a pipe, and without control characters for a
    terminal, which obeys them."""
    return plain(text) if on_terminal else text


def texts_of(content: "list[ContentBlock]") -> Iterator[str]:
    """Yield the content of a result as text; content that is not text is named."""
    for block in content:
        match block.type:
            case "text":
                yield block.text
            case "image" | "audio":
                yield f"[{block.type}, {block.mime_type}, {len(block.data) * 3 // 4} bytes]"
            case "resource_link":
                yield f"[resource {block.uri}]"
            case "resource":
                resource = block.resource
                text = getattr(resource, "text", None)
                yield text if isinstance(text, str) else f"[resource {resource.uri}]"

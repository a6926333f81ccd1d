"""The plain handle, for clients that know no tasks, and the tool that continues it.

A handle is `<run>.<seq>`: the run, and the last entry whose part was sent.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from msgspec import Raw

from headway.events import Entry, decode_json
from headway.protocol.run_uris import META_KEY, uri_of
from headway.protocol.tasks import status_message
from headway.run_state import State, parts_of, view_of

CONTINUE_RUN: Final = "continue_run"

PARTS_BYTES: Final = 256 * 1024
"""Bytes of the parts in one answer, the newest ones: a model has to read them all."""

TOOL: Final[Mapping[str, Any]] = {
    "name": CONTINUE_RUN,
    "title": "Wait for a call that is still running",
    "description": "Some tools answer before they are done, with a run_id and what they have so "
    "far. Call this with that run_id to wait for the rest: it returns the tool's own result when "
    "that is there, or else what is new and a run_id to go on with.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "run_id": {"type": "string", "description": "As the earlier answer has it"},
            "stop": {
                "type": "boolean",
                "default": False,
                "description": "Stop the call instead of waiting for it",
            },
        },
        "required": ["run_id"],
        "additionalProperties": False,
    },
    "annotations": {"readOnlyHint": False, "idempotentHint": True, "openWorldHint": False},
}

_HANDLE_SCHEMA: Final[dict[str, Any]] = {
    "description": "Not done yet: call continue_run with run_id",
    "properties": {"run_id": {"type": "string"}, "state": {"type": "string"}},
    "required": ["run_id", "state"],
}


def parse_handle(text: str) -> tuple[str, int]:
    """Return the run's id and the last entry whose part was sent; a bare id is a handle too."""
    run_id, _, seq = text.strip().partition(".")
    is_place = seq.isascii() and seq.isdigit() and len(seq) < 19
    return run_id, int(seq) if is_place else 0


def handle_result(run_id: str, entries: list[Entry], after: int) -> dict[str, Any]:
    """Return the result of a call that goes on: what is new after entry `after`, and the handle."""
    view = view_of(entries)
    handle = f"{run_id}.{entries[-1].seq}"
    parts, left_out = _newest_parts(_parts_after(entries, after))
    state = "input_required" if view.state is State.INPUT_REQUIRED else "working"
    structured: dict[str, Any] = {"run_id": handle, "state": state}
    if view.progress is not None:
        progress = {"progress": view.progress, "total": view.total, "message": view.message}
        structured |= {name: value for name, value in progress.items() if value is not None}
    if parts:
        structured["parts"] = [decode_json(part) for part in parts]
    if left_out:
        structured["parts_left_out"] = left_out
    doing = status_message(view)
    text = (
        f"Not done yet{f' ({doing})' if doing else ''}. The call goes on; call the tool "
        f"{CONTINUE_RUN} with run_id {handle!r} to wait for the rest."
    )
    return {
        "content": [*(_as_block(part) for part in parts), {"type": "text", "text": text}],
        "structuredContent": structured,
        "isError": False,
        "_meta": {META_KEY: uri_of(run_id)},
    }


def rest_of(result: dict[str, Any], entries: list[Entry], after: int) -> dict[str, Any]:
    """Return the tool's result, after the parts that were not sent yet.

    Parts that the result repeats, as that of a generator does, are left to it.
    """
    everything = [decode_json(part) for part in _parts_after(entries, 0)]
    if _returned_list(result) == everything:
        return result
    parts, _ = _newest_parts(_parts_after(entries, after))
    content = [*(_as_block(part) for part in parts), *result.get("content", [])]
    return {**result, "content": content}


def _returned_list(result: dict[str, Any]) -> object:
    """Return the list that a result stands for, if it is one."""
    structured = result.get("structuredContent")
    if structured is None:
        return [_value_of_block(block) for block in result.get("content", [])]
    is_object = isinstance(structured, dict)
    return cast("dict[str, object]", structured).get("result") if is_object else None


def _value_of_block(block: dict[str, Any]) -> object:
    """Return the value that a content block was made of."""
    if block.get("type") != "text":
        return block
    try:
        return json.loads(block["text"])
    except ValueError:
        return block["text"]


def with_handle_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the output schema of a tool whose calls may be answered with a handle.

    Clients check results against it, and a handle is no result of the tool's own. None if the
    schema refers to places in itself that would move: the tool is listed without a schema then.
    """
    text = json.dumps(schema)
    if text.count('"$ref"') != text.count('"$ref": "#/$defs/'):
        return None
    at_root = {name: schema[name] for name in ("$schema", "$defs", "title") if name in schema}
    inner = {name: value for name, value in schema.items() if name not in at_root}
    if inner.get("type") == "object":  # where a revision wants it
        at_root["type"] = inner.pop("type")
    return {**at_root, "anyOf": [inner, _HANDLE_SCHEMA]}


def handle_in(meta: object, structured: object) -> str | None:
    """Return the handle in a result, for a client that wants to go on by itself, or None."""
    match meta, structured:
        case {"headway/run": str()}, {"run_id": str(handle), "state": "working" | "input_required"}:
            return handle
        case _:
            return None


def _parts_after(entries: list[Entry], after: int) -> list[Raw]:
    return parts_of(entry for entry in entries if entry.seq > after)


def _newest_parts(parts: list[Raw]) -> tuple[list[Raw], int]:
    """Return the last parts, as many as fit, and how many do not."""
    room = PARTS_BYTES
    for count, value in enumerate(reversed(parts)):
        room -= len(bytes(value))
        if room < 0:
            return parts[len(parts) - count :], len(parts) - count
    return parts, 0


_BLOCKS: Final = {
    "text": "text",
    "image": "data",
    "audio": "data",
    "resource": "resource",
    "resource_link": "uri",
}
"""The kinds of content, and what each has to have."""


def _as_block(part: Raw) -> dict[str, Any]:
    """Return a part as content: a content block as it is, all else as text."""
    value: object = decode_json(part)
    if isinstance(value, dict):
        block = cast("dict[str, Any]", value)
        kind = block.get("type")
        if isinstance(kind, str) and _BLOCKS.get(kind) in block:
            return block
    text = value if isinstance(value, str) else bytes(part).decode()
    return {"type": "text", "text": text}

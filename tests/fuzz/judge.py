"""What every answer must be, whatever was asked."""

import json
import re
from typing import Any, Final, cast

from tests.fuzz.wire import Answer, Broken, Sent

STATUSES: Final = {
    200, 202, 204, 307, 400, 403, 404, 405, 406, 408, 409, 413, 415, 421, 431, 501, 503, 505,
}  # fmt: skip

TELLTALE: Final = re.compile(rb'Traceback|File \\?"/|\.py\b|site-packages|\bheadway\.[a-z]+\.|0x7f')
"""Text that is about our insides."""

INTERNAL_ERROR: Final = -32603


def judge(sent: Sent, answer: Answer) -> None:
    """Raise `Broken` where the answer to a request is none that a server may give."""
    if answer.status == 0:
        return
    if answer.status not in STATUSES:
        raise Broken(f"status {answer.status}: {answer.body[:300]!r}")
    if answer.status == 503 and "retry-after" not in answer.headers:
        raise Broken(f"503 without Retry-After: {answer.body[:300]!r}")
    _tells_nothing(sent.body + sent.path.encode("latin-1"), answer.body)
    if not answer.is_whole and not answer.is_stream:
        raise Broken(f"an answer without its end: {answer}")
    if sent.method == "HEAD":
        return
    if answer.is_stream:
        _judge_stream(sent, answer)
    elif answer.kind == "application/json":
        _judge_json(sent, answer)
    elif answer.status == 202 or (sent.method == "DELETE" and not answer.kind):
        if answer.body:
            raise Broken(f"a {answer.status} with a body: {answer.body[:300]!r}")
    elif not answer.body.isascii() or len(answer.body) > 200:
        raise Broken(f"an odd answer of type {answer.kind!r}: {answer.body[:300]!r}")


def _tells_nothing(sent: bytes, said: bytes) -> None:
    for found in TELLTALE.findall(said):
        if found not in sent:
            at = said.find(found)
            raise Broken(f"the answer speaks of our insides: {said[max(0, at - 200) : at + 200]!r}")


def _judge_json(sent: Sent, answer: Answer) -> None:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise Broken(f"no JSON ({error}): {answer.body[:300]!r}") from None
    if answer.status >= 400 and isinstance(value, dict) and "error" not in value:
        raise Broken(f"status {answer.status} without an error: {answer.body[:300]!r}")
    messages = cast("list[Any]", value) if isinstance(value, list) else [value]
    for message in messages:
        judge_message(message)
        _judge_identity(sent, message)


def _judge_stream(sent: Sent, answer: Answer) -> None:
    if answer.status != 200:
        raise Broken(f"a stream with status {answer.status}")
    *frames, rest = answer.body.split(b"\n\n")
    if rest and answer.is_whole:
        raise Broken(f"the stream ends inside a frame: {rest[:300]!r}")
    messages = [message for frame in frames if (message := _message_of(frame)) is not None]
    for message in messages:
        judge_message(message)
        if "method" not in message:
            _judge_identity(sent, message)
    wanted = {key_of(each["id"]) for each in sent.messages if "id" in each and "method" in each}
    if answer.is_whole and sent.method == "POST" and wanted:
        answered = {key_of(each["id"]) for each in messages if "method" not in each}
        if not answered:
            raise Broken(f"a stream that ends without an answer: {answer.body[-300:]!r}")


def _message_of(frame: bytes) -> Any:
    """The message of an SSE frame, None for a comment or a priming event."""
    data: list[bytes] = []
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b":")
        if name not in (b"", b"id", b"event", b"data", b"retry"):
            raise Broken(f"no SSE field: {line[:300]!r}")
        if name == b"data":
            data.append(value.removeprefix(b" "))
    text = b"\n".join(data)
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise Broken(f"no JSON in a frame: {text[:300]!r}") from None


def judge_message(message: Any) -> None:
    """Raise `Broken` where a message of the server is no JSON-RPC message, or an internal error."""
    match message:
        case {"jsonrpc": "2.0", "id": str() | int(), "result": dict()} if "error" not in message:
            return
        case {"jsonrpc": "2.0", "error": {"code": int(code), "message": str(text)}}:
            well_formed = "result" not in message and text and "\n" not in text
            if code == INTERNAL_ERROR or not well_formed or not _is_id(message.get("id")):
                raise Broken(f"no good error: {str(message)[:500]}")
        case {"jsonrpc": "2.0", "method": str()}:
            return
        case _:
            raise Broken(f"no JSON-RPC message: {str(message)[:300]}")


def _is_id(value: object) -> bool:
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _judge_identity(sent: Sent, message: dict[str, Any]) -> None:
    """An answer names a request of the body, or none."""
    identity = message.get("id")
    known = [key_of(each.get("id")) for each in sent.messages]
    if sent.method == "POST" and identity is not None and known and key_of(identity) not in known:
        raise Broken(f"the answer names {identity!r}, which was not asked: {str(message)[:300]}")


def key_of(value: object) -> str:
    """Ids by type and value: 1 is not "1", and 1.0 is 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)

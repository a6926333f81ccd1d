"""Whether an answer is right. A wrong answer is an error, not a fast answer."""

import re

import msgspec

from bench.connection import Response

_DATA = re.compile(rb"^data: ?([^ \r\n][^\r\n]*)", re.MULTILINE)


class WrongAnswer(Exception):
    """The server answered, but not what was asked."""


class Content(msgspec.Struct):
    """An item of a tool's result."""

    text: str = ""


class Result(msgspec.Struct, rename="camel"):
    """A tool's result."""

    content: list[Content] = msgspec.field(default_factory=list[Content])
    is_error: bool = False


class Params(msgspec.Struct, rename="camel"):
    """What a progress notification says."""

    progress_token: int = -1
    progress: float = -1


class Failure(msgspec.Struct):
    """A JSON-RPC error."""

    code: int
    message: str


class Message(msgspec.Struct):
    """A JSON-RPC message, as far as it is looked at."""

    id: int | None = None
    method: str = ""
    params: Params | None = None
    result: Result | None = None
    error: Failure | None = None


_decode = msgspec.json.Decoder(Message).decode


def messages(response: Response) -> list[Message]:
    """The messages of a JSON or SSE answer.

    Raises:
        WrongAnswer: It is not HTTP 200 with JSON-RPC messages.
    """
    content_type = response.header("content-type") or ""
    try:
        if response.status != 200:
            raise WrongAnswer(f"HTTP {response.status}: {response.body[:200]!r}")
        if content_type.startswith("text/event-stream"):
            return [_decode(data) for data in _DATA.findall(response.body)]
        return [_decode(response.body)]
    except msgspec.MsgspecError as error:
        raise WrongAnswer(f"{error}: {response.body[:200]!r}") from error


def check_call(response: Response, request_id: int, text: str, events: int = 0) -> None:
    """A tool call was answered with its text, after exactly this many progress events.

    Raises:
        WrongAnswer: It was not, or the events were not 1, 2, 3 … under the request's token.
    """
    *before, answer = messages(response) or [Message()]
    if answer.error is not None or answer.id != request_id or answer.result is None:
        raise WrongAnswer(f"no result for request {request_id}: {response.body[-200:]!r}")
    if answer.result.is_error or [item.text for item in answer.result.content] != [text]:
        raise WrongAnswer(f"not the tool's result: {response.body[-200:]!r}")
    if len(before) != events:
        raise WrongAnswer(f"{len(before)} messages before the result instead of {events}")
    for expected, message in enumerate(before, 1):
        params = message.params
        if message.method != "notifications/progress" or params is None:
            raise WrongAnswer(f"{message} instead of progress")
        if params.progress != expected or params.progress_token != request_id:
            raise WrongAnswer(f"{params} instead of progress {expected} for {request_id}")

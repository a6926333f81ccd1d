"""The body of a request: of what type it may be, how large, and how long it may take."""

import asyncio
from collections.abc import Awaitable
from typing import Final

from mcp_types.jsonrpc import INVALID_REQUEST
from starlette.types import Receive

from headway.errors import ProtocolError
from headway.first_step import FirstStep
from headway.settings import Settings
from headway.transport.http.unfinished_requests import UnfinishedRequest, UnfinishedRequests

_Chunk = tuple[bytes, bool]
"""A piece of a body, and whether there are more."""


_JSON: Final = "application/json"


class ClientGone(Exception):
    """The client closed the connection before its request was read."""


def check_content_type(headers: dict[str, str]) -> None:
    """Refuse a POST whose body is not declared as JSON.

    Raises:
        ProtocolError: 415.
    """
    given = headers.get("content-type", "")
    if given != _JSON and given.partition(";")[0].strip().lower() != _JSON:
        raise ProtocolError(
            INVALID_REQUEST, "Send the message as Content-Type: application/json", status=415
        )


def check_encoding(headers: dict[str, str]) -> None:
    """Refuse a compressed body, because nothing here unpacks it.

    Raises:
        ProtocolError: 415 (RFC 9110, 15.5.16).
    """
    coding = headers.get("content-encoding")
    if coding and coding.lower() != "identity":
        raise ProtocolError(
            INVALID_REQUEST,
            f"Content-Encoding {coding[:100]!r} is not taken here; send the body as it is",
            status=415,
        )


async def read_body(
    headers: dict[str, str], receive: Receive, settings: Settings, arrivals: UnfinishedRequests
) -> bytes:
    """Return the whole body of a request.

    Raises:
        ProtocolError: It is larger than `max_body` (413), was not there in time (408), or had to
            make room for others while it was arriving (503).
        ClientGone: The connection ended first.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared[:19]) > settings.max_body:
        raise _too_large(settings.max_body)
    # Most bodies are there when they are asked for, and then no time has to be limited.
    step = FirstStep(_next_chunk(receive))
    if not step.is_over and not arrivals.is_timed_elsewhere:
        return await _read_in_time(b"", step, receive, settings, arrivals)
    chunk, is_more = step.result if step.is_over else await step
    if is_more:
        return await _read_in_time(chunk, None, receive, settings, arrivals)
    if len(chunk) > settings.max_body:
        raise _too_large(settings.max_body)
    return chunk


async def _read_in_time(
    begun: bytes,
    following: Awaitable[_Chunk] | None,
    receive: Receive,
    settings: Settings,
    arrivals: UnfinishedRequests,
) -> bytes:
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(settings.body_timeout)
    arrival = arrivals.begin(lambda: limit.reschedule(loop.time()))
    try:
        async with limit:
            return await _read_chunks(begun, following, receive, arrival, settings.max_body)
    except TimeoutError:
        if arrival.has_given_way:
            raise arrivals.refusal_error() from None
        raise _too_late() from None
    finally:
        arrival.end()


async def _read_chunks(
    begun: bytes,
    following: Awaitable[_Chunk] | None,
    receive: Receive,
    arrival: UnfinishedRequest,
    most: int,
) -> bytes:
    chunks, size, is_more = [begun], len(begun), True
    arrival.grow(size)
    while is_more:
        if size > most:
            raise _too_large(most)
        chunk, is_more = await (_next_chunk(receive) if following is None else following)
        following = None
        chunks.append(chunk)
        size += len(chunk)
        arrival.grow(len(chunk))
    if size > most:
        raise _too_large(most)
    return b"".join(chunks)


async def _next_chunk(receive: Receive) -> _Chunk:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


def _too_late() -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        "The request's body did not arrive in time; send it again",
        status=408,
        limit="body_timeout",
    )


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        f"The body is larger than {limit} bytes; send less, or have the operator raise max_body",
        status=413,
        limit="max_body",
    )

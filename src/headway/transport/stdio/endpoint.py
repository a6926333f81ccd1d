"""MCP over a pipe: one client, one message a line, both eras side by side.

Every request is a run of the engine, as over HTTP, and what is written for it is a cursor on
its stream. All cursors share one writer: they wait when the client does not read, and no tool
waits for anything here.

A message belongs to 2026-07-28 when it carries that revision's envelope, and to the one session
of this pipe otherwise. Request ids are the client's and mean the same in both.
"""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final, cast

from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST
from msgspec import Raw

from headway.background import BackgroundTasks
from headway.engine import BUSY_CODE, Run, RunContext
from headway.errors import ProtocolError
from headway.events import Cancelled, Event, Interrupted, encode_json
from headway.log_lines import quiet_logger
from headway.protocol import render, tasks_2025
from headway.protocol.jsonrpc_message import (
    Message,
    as_id,
    classify_enveloped,
    has_envelope,
    identity_of,
    parse_body,
    read_message,
)
from headway.repeated_log_lines import RefusalLog
from headway.transport.messages_2025 import Messages2025, read_batch
from headway.transport.messages_2026 import Messages2026, reader_of
from headway.transport.sessions.outbox import SessionOutbox
from headway.transport.sessions.session import Session
from headway.transport.shared_parts import Endpoint
from headway.transport.stdio.pipe import Pipe
from headway.transport.stdio.response import PipeResponse
from headway.transport.stream_pages import End

logger = quiet_logger(__name__)

KIND: Final = "stdio"

FAREWELL_TIMEOUT: Final = 0.25
"""Seconds that open requests may still take when the client closes its end: `printf '…' | headway
run server.py --stdio` is a fair way to ask something."""

READ_PATIENCE: Final = 1.25
"""Seconds until every run has its end; a run that does not come back is given one in less."""

FLUSH_TIMEOUT: Final = 0.5
"""Seconds that the last messages may take to be written."""


class StdioTransport:
    """The MCP endpoint of one pipe."""

    def __init__(self, endpoint: Endpoint, pipe: Pipe) -> None:
        self._engine = endpoint.engine
        self._sessions = endpoint.sessions
        self._settings = endpoint.engine.settings
        self._pipe = pipe
        records = endpoint.engine.services.options.records
        self._refusals = RefusalLog(None if records is None else records.refuse)
        self._messages_2025 = Messages2025(endpoint, is_read=self._is_read)
        self._messages_2026 = Messages2026(endpoint)
        self._session: Session | None = None
        self._open: dict[str | int, tuple[Message, Run, PipeResponse]] = {}
        self._tasks = BackgroundTasks("stdio requests")
        self._own_tasks = BackgroundTasks("stdio notifications")

    async def serve(self) -> None:
        """Serve the client until it closes its end or the pipe is ended, and end all runs.

        When this returns, every run has its end in the journal and the client has been sent
        what it still takes.
        """
        self._pipe.start()
        reading = self._tasks.start(self._read_lines())
        try:
            await self._pipe.ended.wait()
            await self._end_runs(reading)
        finally:
            self._tasks.cancel()
            self._own_tasks.cancel()
            self._pipe.writer.close()

    # Reading

    async def _read_lines(self) -> None:
        async for line in self._pipe.lines():
            # While a client does not read its answers, no further request of it is read.
            await self._pipe.writer.wait_for_room()
            value: object = None
            try:
                if line is None:
                    raise _too_long(self._settings.max_body)
                value = parse_body(line, self._settings.max_depth, self._settings.max_values)
                await self._handle_value(value)
            except ProtocolError as error:
                self._write_refusal(identity_of(value), error)
            except Exception:  # one message must not end the connection
                logger.exception("a message could not be handled")
                error = ProtocolError(INTERNAL_ERROR, "Internal server error")
                self._write_refusal(identity_of(value), error)

    async def _handle_value(self, value: object) -> None:
        if not isinstance(value, list):
            await self._dispatch_message(read_message(value), is_modern=has_envelope(value))
            return
        if self._session is None:
            raise ProtocolError(INVALID_REQUEST, "Send one message a line, and initialize first")
        most = self._settings.max_batch
        for message in read_batch(cast("list[object]", value), self._session.facts.era, most):
            try:
                await self._dispatch_message(message, is_modern=False)
            except ProtocolError as error:
                self._write_refusal(message.id, error)

    async def _dispatch_message(self, message: Message, *, is_modern: bool) -> None:
        if is_modern and message.is_request:
            message = self._messages_2026.bound_message(message)
        if not message.is_request:
            await self._handle_notification(message, is_modern=is_modern)
        elif self._is_going_on(message):
            logger.debug("request %r was sent twice", message.id)
        elif is_modern:
            await self._run_2026(message)
        elif message.method == "initialize":
            await self._open_session(message)
        elif self._session is not None:
            await self._run_2025(message, self._session)
        elif message.method == "ping":
            self._pipe.writer.put(render.response_bytes(message.id, Raw(b"{}")))
        else:
            raise ProtocolError(
                INVALID_REQUEST,
                "Send initialize first, or the envelope of 2026-07-28 in params._meta",
            )

    def _is_read(self, stream: str) -> bool:
        return any(run.stream == stream for _, run, _ in self._open.values())

    def _is_going_on(self, message: Message) -> bool:
        """Return whether this very request is being answered already.

        Raises:
            ProtocolError: Another one with its id is, or the client asks too much at once.
        """
        known = self._open.get(cast("str | int", message.id))
        if known is None:
            most = self._settings.max_runs + self._settings.max_queue
            if len(self._open) >= most:
                raise ProtocolError(
                    BUSY_CODE,
                    f"{most} requests are open (max_runs and max_queue); wait for some to end",
                    limit="max_queue",
                )
            return False
        if known[0].body != message.body:
            # Refused without its id: an error with it would end the request that has it.
            self._write_refusal(
                None,
                ProtocolError(
                    INVALID_REQUEST,
                    f"Request id {message.id!r} is still in use for another request; "
                    "give each request an id of its own",
                ),
            )
        return True

    async def _handle_notification(self, message: Message, *, is_modern: bool) -> None:
        """Take a notification or an answer."""
        if message.method == "notifications/cancelled":
            self._cancel_request(message)
        if self._session is None or is_modern:
            logger.debug("%s: there is no session to say it in", message.method)
            return
        context = self._make_context(message, can_ask=False)
        if message.method is None:
            try:
                await self._messages_2025.handle_message(self._session, message, context)
            except ProtocolError as error:  # there is no reply to an answer
                logger.info("a message was ignored: %s", error)
            return
        # Not awaited: a handler may ask the client something, and the answer comes this way.
        notifying = self._messages_2025.notify_client(self._session, message, context)
        self._own_tasks.start(notifying)

    def _cancel_request(self, message: Message) -> None:
        """Stop a request; nothing more is written for it (a MUST of 2026-07-28)."""
        identity = as_id((message.params or {}).get("requestId"))
        known = self._open.pop(identity, None) if identity is not None else None
        if known is not None and identity is not None:
            _, run, response = known
            if self._session is not None:
                # It may take a moment to stop; its id is free from now on.
                self._session.requests.pop(identity, None)
            reason = (message.params or {}).get("reason")
            response.stop(End.CLOSED)
            run.cancel("client", reason[:200] if isinstance(reason, str) else None)

    # Requests

    async def _open_session(self, message: Message) -> None:
        session = self._sessions.draft_session("")
        context = self._make_context(message, can_ask=False)
        result = await self._messages_2025.open_session(session, message, context)
        if self._session is not None:
            await self._sessions.close_session(self._session, "the client sent initialize again")
        self._session = session
        session.usage.holders += 1  # for as long as there is the pipe
        self._pipe.writer.put(
            render.escape_lines(render.response_bytes(message.id, encode_json(result)))
        )
        reader = render.Reader("", None, session.facts.era, lambda: session.facts.level_rank)
        response = PipeResponse(
            self._pipe.writer, SessionOutbox(session, session.deliveries.position), reader
        )
        self._own_tasks.start(response.write_all())

    async def _run_2025(self, message: Message, session: Session) -> None:
        run = await self._messages_2025.run_request(
            session, message, self._make_context(message, can_ask=True)
        )
        task = await self._messages_2025.make_task(session, run, message)
        if task is not None:
            self._pipe.writer.put(task)
            return
        identity = cast("str | int", message.id)
        reader = render.Reader(
            identity,
            message.token,
            session.facts.era,
            lambda: session.facts.level_rank,
            run.id,
            run.request.method,
            tasks_2025.awaited_task(message.method, message.params),
        )
        response = self._write_response(message, run, reader)
        self._messages_2025.offer_hand_over(session, run, response, message)

    async def _run_2026(self, message: Message) -> None:
        route = classify_enveloped(message)
        context = self._messages_2026.make_context(message, kind=KIND)
        run = await self._messages_2026.run_request(message, route, context, "")
        response = self._write_response(message, run, reader_of(message, run))
        self._messages_2026.offer_hand_over(run, response, message)

    def _write_response(self, message: Message, run: Run, reader: render.Reader) -> PipeResponse:
        """Start to write what the run says, to its end."""
        cursor = self._engine.journal.open_cursor(run.stream)
        opened = self._engine.clock.now()
        response = PipeResponse(self._pipe.writer, cursor, reader, opened=opened)
        identity = cast("str | int", message.id)
        self._open[identity] = (message, run, response)
        run.hooks.answered = lambda: "pipe"
        task = self._tasks.start(response.write_all())
        task.add_done_callback(partial(self._on_response_end, identity, response))
        return response

    def _on_response_end(
        self, identity: str | int, response: PipeResponse, task: asyncio.Task[None]
    ) -> None:
        known = self._open.get(identity)
        if known is None or known[2] is not response:
            return
        del self._open[identity]
        if not task.cancelled() and task.exception() is not None:
            logger.error("an answer could not be written", exc_info=task.exception())
            self._write_refusal(identity, ProtocolError(INTERNAL_ERROR, "Internal server error"))

    def _make_context(self, message: Message, *, can_ask: bool) -> RunContext:
        return RunContext(
            message.id,
            TransportContext(kind=KIND, can_send_request=can_ask),
            ServerMessageMetadata(can_send_request=can_ask),
            message.token,
            message.body,
        )

    def _write_refusal(self, identity: str | int | None, error: ProtocolError) -> None:
        self._engine.counters.count_refusal(error.status, error.limit)
        self._refusals.tell(error.status, error.limit, error.message)
        self._pipe.writer.put(render.error_bytes(identity, error.code, error.message, error.data))

    # The end

    async def _end_runs(self, reading: asyncio.Task[None]) -> None:
        for run in list(self._engine.runs.values()):
            if run.request.kind.is_endless:
                run.cancel("server", "the server is stopping")
        if self._pipe.client_left:
            await self._wait_for_tasks(FAREWELL_TIMEOUT)
        reading.cancel()
        asked = {run.id for _, run, _ in self._open.values()}
        for run in list(self._engine.runs.values()):
            run.stop(self._end_of(run, is_open=run.id in asked))
        await _wait_for_ends(list(self._engine.runs.values()), READ_PATIENCE)
        if self._session is not None:
            await self._sessions.close_session(self._session, "the pipe was closed")
        await self._wait_for_tasks(FLUSH_TIMEOUT)
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._pipe.writer.flush()

    def _end_of(self, run: Run, *, is_open: bool) -> Event:
        if self._pipe.client_left and is_open:
            return Cancelled("connection", "the client closed the pipe")
        return Interrupted("the server was stopped")

    async def _wait_for_tasks(self, within: float) -> None:
        """Return when all requests are answered and all lines are read, or after `within`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._tasks:
                    await self._tasks.wait_for_one(within)


async def _wait_for_ends(runs: list[Run], within: float) -> None:
    left = {run.id for run in runs if not run.ended}
    done = asyncio.Event()

    def run_ended(run_id: str) -> None:
        left.discard(run_id)
        if not left:
            done.set()

    for run in runs:
        run.on_end(partial(run_ended, run.id))
    if left:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await done.wait()


def _too_long(limit: int) -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        f"The line is longer than {limit} bytes; send less, or have the operator raise max_body",
        limit="max_body",
    )

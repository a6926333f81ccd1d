"""The 2025 revisions over HTTP: sessions, resumable streams, GET, DELETE and batches."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from http import HTTPStatus
from math import inf
from typing import cast

from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.jsonrpc import INVALID_REQUEST

from headway.engine import Run, RunContext, stopping_error
from headway.errors import ProtocolError
from headway.events import encode_json
from headway.log_lines import quiet_logger
from headway.protocol import render, tasks_2025
from headway.protocol.eras import Era
from headway.protocol.event_ids import (
    RunCursor,
    SessionCursor,
    new_listener,
    parse_event_id,
    run_prefix,
    session_prefix,
    unknown_event,
)
from headway.protocol.idempotency_key import META_KEY
from headway.protocol.jsonrpc_message import (
    LAST_EVENT_HEADER,
    SESSION_HEADER,
    Message,
    check_version,
)
from headway.repeated_log_lines import RefusalLog, limited_logger
from headway.stream_names import run_stream
from headway.transport.hand_over import may_begin_early
from headway.transport.http.accept_header import Form, need_stream, response_form
from headway.transport.http.batches import Batch
from headway.transport.http.exchange import Exchange, Refusal
from headway.transport.http.json_or_sse import ResponseStream, SseRendering
from headway.transport.http.quick_answer import QuickAnswer
from headway.transport.http.reply import Headers, send_empty, send_result
from headway.transport.http.resume_catch_up import wait_until_stored
from headway.transport.messages_2025 import Messages2025, find_running, read_batch
from headway.transport.open_responses import COMES_BACK, OpenResponses, ReaderSlot
from headway.transport.sessions.outbox import OutboxPosition, SessionOutbox
from headway.transport.sessions.session import Session
from headway.transport.shared_parts import Endpoint
from headway.transport.stream_pages import End, StreamSource

logger = quiet_logger(__name__)


class Http2025:
    """Answers the requests of 2025 clients."""

    def __init__(self, endpoint: Endpoint, answers: OpenResponses, refusals: RefusalLog) -> None:
        self._log = limited_logger(__name__)
        self._messages = Messages2025(endpoint, is_read=answers.is_read)
        self._engine = endpoint.engine
        self._journal = endpoint.engine.journal
        self._sessions = endpoint.sessions
        self._responses = answers
        self._refusals = refusals

    # POST

    async def handle_post(self, exchange: Exchange, message: Message) -> None:
        """Answer one message.

        Raises:
            ProtocolError: It is refused; the id of a request goes with it.
        """
        try:
            if message.method == "initialize" and message.is_request:
                await self._open_session(exchange, message)
            else:
                await self._post_to_session(exchange, message)
        except ProtocolError as error:
            # 409 ends this connection, not the request: its answer goes to another one.
            is_over = message.is_request and error.status != 409
            raise Refusal(error, message.id if is_over else None) from None

    async def _open_session(self, exchange: Exchange, message: Message) -> None:
        form = response_form(exchange.headers)
        session = self._draft_session(exchange)
        context = self._make_context(exchange, message, session, can_ask=False)
        with session:
            result = await self._messages.open_session(session, message, context)
        body = render.escape_lines(render.response_bytes(message.id, encode_json(result)))
        await send_result(exchange.send, form, body, _session_header(session))

    async def _post_to_session(self, exchange: Exchange, message: Message) -> None:
        uses = message.method != "notifications/initialized"
        with await self._find_session(exchange, uses=uses) as session:
            if not message.is_request:
                await self._handle_message(exchange, session, message)
                await send_empty(exchange.send, 202, _session_header(session))
                return
            form = response_form(exchange.headers)
            with self._reserve_slot(session, message) as place:
                await self._answer_request(exchange, session, message, place, form)

    def _reserve_slot(self, session: Session, message: Message) -> ReaderSlot:
        known = find_running(session, message)
        return self._responses.reserve_slot(session.tag, None if known is None else known.stream)

    async def _answer_request(
        self, exchange: Exchange, session: Session, message: Message, place: ReaderSlot, form: Form
    ) -> None:
        # A client that accepts only JSON cannot be asked anything, and has no stream to come back
        # to.
        streams = form is not Form.JSON
        context = self._make_context(exchange, message, session, can_ask=streams)
        run = await self._messages.run_request(
            session,
            message,
            context,
            exchange.key,
            scopes=exchange.scopes,
            rated_as=exchange.rate_name,
        )
        task = await self._messages.make_task(session, run, message)
        if task is not None:
            await send_result(exchange.send, form, task, _session_header(session))
            return
        can_reconnect = session.facts.era.primes and streams
        if can_reconnect and message.token is not None:
            # A call that asks for progress will stream, and a stream that opens at once can be
            # resumed even when it is cut before the tool says anything.
            form = Form.STREAM
        cursor, reader = self._journal.open_cursor(run.stream), _reader_of(session, message, run)
        headers, came = _session_header(session), self._engine.clock.now()

        def open_answer() -> ResponseStream:
            answer = self._responses.open(
                cursor,
                self._make_rendering(session, reader, 0),
                exchange.receive,
                exchange.send,
                headers,
                until=exchange.until,
                opened=came,
            )
            if run.hooks.closes_stream:
                run.hooks.closes_stream = False  # a request that is sent again has its own stream
                answer.stop(End.CLOSED)
            self._messages.offer_hand_over(
                session, run, answer, message, can_reconnect=can_reconnect, is_told=streams
            )
            return answer

        quick = None
        if may_begin_early(run, context) and not self._responses.is_read(run.stream):
            quick = QuickAnswer(cursor, reader, exchange.send, headers)
        era = session.facts.era
        await self._responses.answer_request(run, quick, open_answer, era, place, form=form)

    async def handle_batch(self, exchange: Exchange, values: list[object]) -> None:
        """Answer an array of messages, as 2025-03-26 allows it.

        Raises:
            ProtocolError: It is refused as a whole; nothing of it is executed.
        """
        most = self._engine.settings.max_batch
        with await self._find_session(exchange) as session:
            await self._handle_messages(
                exchange, session, read_batch(values, session.facts.era, most)
            )

    async def _handle_messages(
        self, exchange: Exchange, session: Session, messages: list[Message]
    ) -> None:
        requests = [message for message in messages if message.is_request]
        if exchange.key is not None:
            raise ProtocolError(
                INVALID_REQUEST,
                f"An Idempotency-Key header is for one request; in a batch use _meta {META_KEY!r}",
            )
        if requests:
            need_stream(exchange.headers, "A batch")
        with ExitStack() as stack:
            places = [
                stack.enter_context(self._reserve_slot(session, message)) for message in requests
            ]
            for message in messages:
                if not message.is_request:
                    await self._handle_message(exchange, session, message)
            if not requests:
                await send_empty(exchange.send, 202, _session_header(session))
                return
            await self._answer_batch(exchange, session, requests, places)

    async def _answer_batch(
        self,
        exchange: Exchange,
        session: Session,
        requests: list[Message],
        places: list[ReaderSlot],
    ) -> None:
        batch = Batch(exchange.receive, exchange.send, _session_header(session))
        runs = await self._runs_of(exchange, session, requests)
        for message, run, place in zip(requests, runs, places, strict=True):
            if isinstance(run, ProtocolError):
                self._engine.counters.count_refusal(run.status, run.limit)
                self._refusals.tell(run.status, run.limit, run.message)
                said = render.error_bytes(message.id, run.code, run.message, run.data)
                batch.add_refusal(said)
                continue
            rendering = self._make_rendering(session, _reader_of(session, message, run), 0)
            cursor = self._journal.open_cursor(run.stream)
            answer = self._responses.open(
                cursor,
                rendering,
                batch.receive_disconnect,
                batch.send_member,
                until=exchange.until,
            )
            batch.add_member(run.stream, answer, place)
        await batch.run_members(self._responses)

    # Messages of a session

    async def _find_session(self, exchange: Exchange, *, uses: bool = True) -> Session:
        check_version(exchange.version)
        session_id = exchange.headers.get(SESSION_HEADER)
        if not session_id:
            raise ProtocolError(
                INVALID_REQUEST,
                "The Mcp-Session-Id header is missing; send initialize to open a session",
            )
        return await self._sessions.find_session(session_id, exchange.owner, uses=uses)

    def _draft_session(self, exchange: Exchange) -> Session:
        """Return the session that an `initialize` is about to open.

        Raises:
            ProtocolError: There are as many as there may be (503).
        """
        return self._sessions.draft_session(exchange.owner)

    async def _runs_of(
        self, exchange: Exchange, session: Session, requests: list[Message]
    ) -> list[Run | ProtocolError]:
        """Return the runs of all requests of a batch; when one is refused, none of them begins.

        Where a token lacks the scope of a tool, or the tool is called too often, that is the answer
        to this one request: the others may be done, and a batch that is too large for a rate would
        never be.
        """
        runs: list[Run | ProtocolError] = []
        new: list[Run] = []
        try:
            for message in requests:
                is_new = find_running(session, message) is None
                context = self._make_context(exchange, message, session, can_ask=True)
                run = await self._run_of_member(exchange, session, message, context)
                runs.append(run)
                new += [run] if is_new and isinstance(run, Run) else []
        except ProtocolError:
            for run in new:
                run.cancel("server", "its batch was refused")
            raise
        return runs

    async def _run_of_member(
        self, exchange: Exchange, session: Session, message: Message, context: RunContext
    ) -> Run | ProtocolError:
        try:
            return await self._messages.run_request(
                session, message, context, scopes=exchange.scopes, rated_as=exchange.rate_name
            )
        except ProtocolError as error:
            if error.challenge is None and error.status != HTTPStatus.TOO_MANY_REQUESTS:
                raise
            return error

    async def _handle_message(self, exchange: Exchange, session: Session, message: Message) -> None:
        context = self._make_context(exchange, message, session, can_ask=False)
        await self._messages.handle_message(session, message, context, scopes=exchange.scopes)

    # GET and DELETE

    async def handle_get(self, exchange: Exchange) -> None:
        """Stream a session's own stream, or resume any stream of it where it was cut.

        Raises:
            ProtocolError: The session or the event id is not this client's.
        """
        need_stream(exchange.headers, "GET")
        session = await self._find_session(exchange)
        last = exchange.headers.get(LAST_EVENT_HEADER)
        with session:
            try:
                place = parse_event_id(last) if last else None
                if isinstance(place, RunCursor):
                    await self._resume_run(exchange, session, place)
                else:
                    await self._stream_session(exchange, session, place)
            except ProtocolError as error:
                self._log.warning("session %s…: a GET was refused: %s", session.name[:6], error)
                raise

    async def _stream_session(
        self, exchange: Exchange, session: Session, place: SessionCursor | None
    ) -> None:
        if self._engine.services.lifecycle.is_draining:
            raise stopping_error()
        # Without an event id the GET goes on where the last one ended: entries that no stream has
        # carried are not lost between two GETs.
        if place is None:
            begin = session.deliveries.position
        elif place.tag == session.name and place.seq <= session.facts.seq:
            begin = OutboxPosition(
                place.seq, await session.sessions.broadcasts.changes.clamp_position(place.changes)
            )
        else:
            raise unknown_event()
        listener = new_listener() if place is None or not place.listener else place.listener
        prefix = session_prefix(session.name)
        reader = render.Reader("", None, session.facts.era, lambda: session.facts.level_rank)
        mark = b"%d-%d-%b" % (*begin, listener.encode())
        opening = self._opening_frame(session.facts.era, prefix, mark)
        may_see = partial(self._engine.services.access.may_see, held=exchange.scopes)
        with closing(SessionOutbox(session, begin, listener, may_see)) as outbox:
            rendering = SseRendering(
                reader,
                prefix=prefix,
                opening=opening,
                closing=self._closing_frame(session.facts.era),
                seen=outbox.mark_sent,
                mark=outbox.event_id_mark,
            )
            await self._stream_response(
                exchange,
                session,
                session.stream,
                outbox,
                rendering,
                listener=listener,
                told=outbox.record_sent,
            )

    async def _resume_run(self, exchange: Exchange, session: Session, place: RunCursor) -> None:
        """Stream a run again, after the entry that its reader saw last."""
        # The name holds this session's tag: a run of another session is not found.
        stream = run_stream(session.tag, place.run)
        after = place.seq
        head = await wait_until_stored(self._engine, stream, after)
        access = self._engine.services.access
        if head is None or not await access.may_see(stream, exchange.scopes):
            raise unknown_event()
        if self._journal.is_durable:
            # A crash loses what was not stored yet, and the numbers of lost entries are given
            # again. So a reader that asks after a run's end gets the end once more: it may have
            # seen another one.
            after = min(after, head.last - head.ended)
        elif after > head.last + 1:
            raise unknown_event()
        reader = _make_reader(session, place.id, place.token, place.run)
        rendering = self._make_rendering(session, reader, after)
        limit = self._messages.reconnect_after(session, place.token)
        self._engine.counters.resumed += 1
        cursor = self._journal.open_cursor(stream, after=after)
        await self._stream_response(exchange, session, stream, cursor, rendering, limit)

    async def _stream_response(
        self,
        exchange: Exchange,
        session: Session,
        stream: str,
        cursor: StreamSource,
        rendering: SseRendering,
        limit: float = inf,
        *,
        listener: str | None = COMES_BACK,
        told: Callable[[], None] | None = None,
    ) -> None:
        place = self._responses.reserve_slot(session.tag, stream)
        answer = self._responses.open(
            cursor,
            rendering,
            exchange.receive,
            exchange.send,
            _session_header(session),
            until=exchange.until,
            is_get=True,
        )
        # Announced before it reads, so that readers of other processes end, or wait, as early as
        # possible.
        answer.turn.since = await self._sessions.broadcasts.announce_reader(stream, listener)
        answer.turn.on_yielded = told
        stop = partial(answer.stop, End.CLOSED)
        timer = None if limit == inf else self._engine.clock.call_later(limit, stop)
        try:
            with place:
                await self._responses.run_reader(
                    stream, answer, answer.answer_as_stream(), place, listener=listener
                )
        finally:
            if timer is not None:
                timer.cancel()
            if told is not None:
                told()
            if listener is not None and session.facts.is_open:
                self._sessions.spawn_task(
                    self._sessions.broadcasts.announce_reader_left(stream, answer.turn.since)
                )

    async def handle_delete(self, exchange: Exchange) -> None:
        """Close the session, as its client asks.

        Raises:
            ProtocolError: The session is not this client's.
        """
        session = await self._find_session(exchange)
        await self._sessions.close_session(session, "the client closed it")
        self._responses.close_stream(session.stream)
        await send_empty(exchange.send, 200)

    # What handlers and readers are given

    def _make_context(
        self, exchange: Exchange, message: Message, session: Session, *, can_ask: bool
    ) -> RunContext:
        metadata = ServerMessageMetadata(request_context=exchange.request, can_send_request=can_ask)
        headers = exchange.request.headers
        context = RunContext(
            message.id,
            TransportContext(kind="streamable-http", can_send_request=can_ask, headers=headers),
            metadata,
            message.token,
            message.body,
        )
        if session.facts.era.primes:
            # SEP-1699: only a client that got a priming event can come back to a stream closed
            # early.
            metadata.close_sse_stream = partial(self._close_request_stream, context)
            metadata.close_standalone_sse_stream = partial(self._close_own_stream, session)
        return context

    async def _close_request_stream(self, context: RunContext) -> None:
        run = context.run
        if run is not None and not self._responses.close_stream(run.stream):
            run.hooks.closes_stream = True  # it is not open yet

    async def _close_own_stream(self, session: Session) -> None:
        self._responses.close_stream(session.stream)

    def _make_rendering(self, session: Session, reader: render.Reader, seq: int) -> SseRendering:
        era = session.facts.era
        prefix = run_prefix(reader.run, reader.id, reader.token) if era.has_event_ids else None
        opening = self._opening_frame(era, prefix, b"%d" % seq)
        closing = self._closing_frame(era)
        return SseRendering(reader, prefix=prefix, opening=opening, closing=closing)

    def _opening_frame(self, era: Era, prefix: bytes | None, mark: bytes) -> bytes:
        """Return the priming event: an id to come back with before there is any message."""
        if not era.primes or prefix is None:
            return b""
        retry = int(self._responses.settings.retry * 1000)
        return b"id: %b%b\nretry: %d\ndata: \n\n" % (prefix, mark, retry)

    def _closing_frame(self, era: Era) -> bytes:
        """Return the frame that ends a stream early, for a client that resumes it soon."""
        retry = int(self._responses.settings.retry_closed * 1000)
        return b"retry: %d\n\n" % retry if era.primes else b""


def _reader_of(session: Session, message: Message, run: Run) -> render.Reader:
    """Return the reader that stands for the client of a request."""
    task = tasks_2025.awaited_task(message.method, message.params)
    return _make_reader(session, cast("str | int", message.id), message.token, run.id, task)


def _make_reader(
    session: Session, identity: str | int, token: str | int | None, run: str, task: str = ""
) -> render.Reader:
    facts = session.facts
    return render.Reader(identity, token, facts.era, lambda: facts.level_rank, run, task=task)


def _session_header(session: Session) -> Headers:
    return () if session.is_single else ((b"mcp-session-id", session.id.encode()),)

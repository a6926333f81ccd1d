"""Mirrors: a run that emits what another run emits, so that a second request gets its result.

A mirror reads the other run's stream like any other reader, wherever that run is executed. It has a
stream of its own, for its own request: its id, its progress token, its session.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS

from headway.engine.remote.run_inbox import ask_run, read_inbox
from headway.engine.request import Execute
from headway.engine.run.cancellation import TAKEN_OVER
from headway.engine.run.context import RunContext
from headway.engine.run.run import Run
from headway.errors import EntriesTrimmed, JournalError, StreamNotFound
from headway.events import (
    TERMINAL,
    Cancelled,
    CancelRequested,
    Completed,
    Entry,
    Failed,
    GivenBack,
    InputAnswered,
    InputReceived,
    InputRequested,
    Interrupted,
    Log,
    Notified,
    Part,
    Progress,
    Restarted,
    Started,
    decode_json,
    encode_json,
)
from headway.journal import Cursor, next_available
from headway.protocol import render
from headway.protocol.idempotency_key import GONE, GONE_DATA
from headway.protocol.tasks import open_questions

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]

QUESTION_TIMEOUT_SHARE = 0.9
"""Seconds that the mirrored run gets to end when the mirror is stopped with its server."""

_REPEATED = (Log, Part, Notified)
"""Events that are all repeated; of progress only the newest is."""


def mirror_request(
    stream: str, *, owns: bool = False, begun: Callable[[], object] | None = None
) -> Execute:
    """Return the handler of a request that only mirrors the run in `stream`.

    `begun` is called when that run is seen to start. With `owns` it is executed for this request
    alone.
    """

    async def execute(context: RunContext) -> dict[str, Any]:
        run = context.run
        assert run is not None
        ask = context.send_raw_request if context.can_send_request else None
        following = MirrorRun(
            run, stream, ask=ask, means_the_work=True, owns=owns, begun=begun or _ignore_start
        )
        try:
            return await following.result()
        except StreamNotFound:  # it was dropped since somebody looked for it
            raise result_gone_error() from None

    return execute


def _ignore_start() -> None:
    pass


class MirroredFailed(MCPError):
    """The mirrored run ended with an error, which is the end of the mirror too."""

    def __init__(self, end: Failed) -> None:
        super().__init__(end.code, end.message, None if end.data is None else decode_json(end.data))
        self.end = end


class MirrorRun:
    """Makes `run` a mirror of the run in `stream`.

    Args:
        run: The mirror, in this process.
        stream: The mirrored run, in any process.
        after: Number of the entry after which the mirroring begins.
        ask: Asks the client of `run` what the mirrored run asks; the first answer counts. None
            where the client cannot be asked.
        means_the_work: A client that cancels `run` cancels the mirrored run too. A lost connection
            never does.
        owns: The mirrored run is executed for `run` alone: whatever stops one stops the other, and
            a client's refusal of a question is the answer to it.
        begun: Called when the mirrored run is seen to start.
    """

    def __init__(
        self,
        run: Run,
        stream: str,
        *,
        after: int = 0,
        ask: Ask | None = None,
        means_the_work: bool = False,
        owns: bool = False,
        begun: Callable[[], object] = _ignore_start,
    ) -> None:
        self._after = after
        self._run = run
        self._stream = stream
        self._ask_client = ask
        self._means_the_work = means_the_work
        self._owns = owns
        self._begun = begun
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._last: Entry | None = None

    async def result(self) -> dict[str, Any]:
        """Return the mirrored run's result.

        Cancellation: stops the mirrored run as well, where `means_the_work` and `owns` say so.

        Raises:
            MCPError: It ended with an error, was cancelled or was interrupted.
            StreamNotFound: There is no such run, or it has been forgotten.
        """
        try:
            return await self._follow_run()
        except asyncio.CancelledError:
            end = self._run.stop_event
            if isinstance(end, Cancelled) and self._cancels_other(end):
                self._stop_other(end.by, end.reason)
            if isinstance(end, Interrupted) and end != TAKEN_OVER and not self._run.ended:
                # The mirrored run may be at its end in this very moment: then all get the same end.
                with (
                    anyio.move_on_after(QUESTION_TIMEOUT_SHARE, shield=True),
                    suppress(JournalError),
                ):
                    return await self._follow_run()
                if self._owns and not self._run.hooks.has_handle:
                    self._stop_other("server", end.reason)
            raise
        finally:
            self._stop_asking()

    def _stop_asking(self) -> None:
        for task in self._asking.values():
            task.cancel()
        self._asking.clear()

    def _cancels_other(self, end: Cancelled) -> bool:
        """Return whether a cancellation of the mirror is meant for the mirrored run, too."""
        return self._means_the_work and (end.by == "client" or (self._owns and end.by != "server"))

    def _stop_other(self, by: str, reason: str | None) -> None:
        self._run.services.inboxes.tell_later(self._stream, CancelRequested(by, reason))

    async def _follow_run(self) -> dict[str, Any]:
        """Repeat all entries that follow the last repeated one, and return the result."""
        journal = self._run.journal
        # After a first pass (`result` may follow twice, see its cancellation) it goes on after the
        # last entry that was repeated.
        last = self._last or await self._repeat_past()
        cursor = journal.open_cursor(self._stream, after=last.seq)
        while not cursor.done:
            # A worker goes on with it, and its entries can be read when the storage is back.
            more = next_available(journal, cursor) if self._owns else _next_kept(cursor)
            for last in await more:
                self._repeat(last)
                self._last = last
        return _result_of(last)

    async def _repeat_past(self) -> Entry:
        """Repeat the entries that there are already, and return the last one."""
        past = await self._run.journal.read_all_kept(self._stream)
        await self._skip_repeated(past)
        self._catch_up(past, open_questions(past, await self._read_inbox()))
        self._last = past[-1]
        return past[-1]

    async def _skip_repeated(self, past: list[Entry]) -> None:
        """Leave out events that an earlier attempt has repeated already, in this stream."""
        own = await self._run.journal.read_all_kept(self._run.stream)
        said = sum(isinstance(entry.event, _REPEATED) for entry in own)
        news = [e.seq for e in past if e.seq > self._after and isinstance(e.event, _REPEATED)]
        if said and news:
            self._after = news[min(said, len(news)) - 1]

    async def _read_inbox(self) -> list[Entry]:
        try:
            return await read_inbox(self._run.journal, self._stream)
        except JournalError:
            return []

    def _catch_up(self, past: list[Entry], unanswered: list[InputRequested]) -> None:
        """Repeat what is new of `past`, and ask the questions that nobody has answered."""
        standing = [entry for entry in past if isinstance(entry.event, Progress)][-1:]
        after = self._after  # repeating moves it
        for entry in past:
            is_news = entry.seq > after or entry in standing or entry.event in unanswered
            # Old questions are asked again only if they are still open; progress is repeated only
            # once, the newest.
            if is_news and (entry.event in unanswered or type(entry.event) is not InputRequested):
                self._repeat(entry)
        self._after = past[-1].seq

    def _repeat(self, entry: Entry) -> None:
        """Do in this run what the mirrored run did."""
        self._after = entry.seq
        match entry.event:
            case Progress(progress, total, message):
                self._run.output.report(progress, total, message)
            case Started():
                self._begun()
            case Log() | Part() | Notified():  # `_REPEATED`
                self._run.output.emit_event(entry.event)
            case InputRequested() if self._ask_client is not None:
                question = self._ask_client_for(entry.event, self._ask_client)
                self._asking[entry.event.key] = asyncio.create_task(question)
            case InputReceived(key):
                asking = self._asking.pop(key, None)
                if asking is not None:
                    asking.cancel()
            case Restarted() | GivenBack():
                self._stop_asking()  # the process that asked is gone
            case _:
                pass

    async def _ask_client_for(self, question: InputRequested, ask_client: Ask) -> None:
        params: dict[str, Any] = {} if question.params is None else decode_json(question.params)
        try:
            answered = InputAnswered(
                question.key, encode_json(await ask_client(question.method, params))
            )
        except MCPError as error:
            if not self._owns:
                return  # the mirrored run may still get the answer from another client
            refusal = error.error.model_dump(exclude_none=True)
            answered = InputAnswered(question.key, encode_json(refusal), True)
        await ask_run(self._run.journal, self._stream, answered)


async def _next_kept(cursor: Cursor) -> list[Entry]:
    """Return the next entries that are still kept; a storage that is away is not waited for."""
    try:
        return await cursor.next()
    except EntriesTrimmed as error:
        cursor.after = error.first - 1
        return []


def result_gone_error() -> MCPError:
    """Return the error for a run that was executed and whose result is no longer kept."""
    return MCPError(INVALID_PARAMS, GONE, dict(GONE_DATA))


def _result_of(last: Entry) -> dict[str, Any]:
    match last.event:
        case event if type(event) not in TERMINAL:
            raise result_gone_error()  # dropped while it was read
        case Completed(result):
            return decode_json(result)
        case Failed() as end:
            raise MirroredFailed(end)
        case end:
            raise MCPError(render.error_code(end) or INTERNAL_ERROR, render.error_message(end))

"""A run that says what another one says: how a second request gets what the first one asked for.

It is a cursor like any other reader, on whichever process the other run is executed, and has a
stream of its own for its own request: its id, its token, its session.
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
"""Seconds that a run which is followed gets to end when this one is stopped with its server."""

_REPEATED = (Log, Part, Notified)
"""What is said once, whatever was said before; of progress only the newest counts."""


def mirror_request(
    stream: str, *, owns: bool = False, begun: Callable[[], object] | None = None
) -> Execute:
    """What is executed for a request that only wants what the run in `stream` says."""

    async def execute(context: RunContext) -> dict[str, Any]:
        run = context.run
        assert run is not None
        ask = context.send_raw_request if context.can_send_request else None
        following = MirrorRun(
            run, stream, ask=ask, means_the_work=True, owns=owns, begun=begun or _nothing
        )
        try:
            return await following.result()
        except StreamNotFound:  # it was dropped since somebody looked for it
            raise result_gone_error() from None

    return execute


def _nothing() -> None:
    pass


class MirroredFailed(MCPError):
    """The run that is followed ended with an error, which is the end of this one too."""

    def __init__(self, end: Failed) -> None:
        super().__init__(end.code, end.message, None if end.data is None else decode_json(end.data))
        self.end = end


class MirrorRun:
    """Has `run` repeat the run in `stream`, from behind entry `after`.

    What the other run asks is put to `ask`, where the client can be asked; whoever answers first
    is heard. With `means_the_work` a client that says that it wants this request cancelled wants
    the other run stopped too. A lost connection does not touch it.

    With `owns` it is executed for `run` alone: whatever stops this one stops it, and the client's
    refusal of a question is its answer. `begun` is called when it is seen to begin.
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
        begun: Callable[[], object] = _nothing,
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
        """The other run's result.

        Raises:
            MCPError: It ended with an error, was cancelled or was interrupted.
            StreamNotFound: There is no such run, or it has been forgotten.
        """
        try:
            return await self._follow()
        except asyncio.CancelledError:
            end = self._run.stop_event
            if isinstance(end, Cancelled) and self._is_meant(end):
                self._stop_the_other(end.by, end.reason)
            if isinstance(end, Interrupted) and end != TAKEN_OVER and not self._run.ended:
                # The other run may be at its end in this very moment: all are to hear the same.
                with (
                    anyio.move_on_after(QUESTION_TIMEOUT_SHARE, shield=True),
                    suppress(JournalError),
                ):
                    return await self._follow()
                if self._owns and not self._run.hooks.has_handle:
                    self._stop_the_other("server", end.reason)
            raise
        finally:
            self._ask_no_more()

    def _ask_no_more(self) -> None:
        for task in self._asking.values():
            task.cancel()
        self._asking.clear()

    def _is_meant(self, end: Cancelled) -> bool:
        """Whether who stops this run means the other one; the server itself does not."""
        return self._means_the_work and (end.by == "client" or (self._owns and end.by != "server"))

    def _stop_the_other(self, by: str, reason: str | None) -> None:
        self._run.engine.inboxes.tell_later(self._stream, CancelRequested(by, reason))

    async def _follow(self) -> dict[str, Any]:
        """The result, from wherever this has come to."""
        journal = self._run.journal
        last = self._last or await self._begin()
        cursor = journal.cursor(self._stream, after=last.seq)
        while not cursor.done:
            # A worker goes on with it, and can be heard again when the storage is back.
            more = next_available(journal, cursor) if self._owns else _passing_over(cursor)
            for last in await more:
                self._say(last)
                self._last = last
        return _outcome(last)

    async def _begin(self) -> Entry:
        """Say what there is; the last of it is returned."""
        past = await self._run.journal.read_all_kept(self._stream)
        await self._pass_over(past)
        self._catch_up(past, open_questions(past, await self._inbox()))
        self._last = past[-1]
        return past[-1]

    async def _pass_over(self, past: list[Entry]) -> None:
        """Go on behind what was said already, by a process that is gone."""
        own = await self._run.journal.read_all_kept(self._run.stream)
        said = sum(isinstance(entry.event, _REPEATED) for entry in own)
        news = [e.seq for e in past if e.seq > self._after and isinstance(e.event, _REPEATED)]
        if said and news:
            self._after = news[min(said, len(news)) - 1]

    async def _inbox(self) -> list[Entry]:
        try:
            return await read_inbox(self._run.journal, self._stream)
        except JournalError:
            return []

    def _catch_up(self, past: list[Entry], unanswered: list[InputRequested]) -> None:
        """Say what is not known yet, where it stands, and ask what nobody has answered."""
        standing = [entry for entry in past if isinstance(entry.event, Progress)][-1:]
        after = self._after  # what is said moves it
        for entry in past:
            is_news = entry.seq > after or entry in standing or entry.event in unanswered
            if is_news and (entry.event in unanswered or type(entry.event) is not InputRequested):
                self._say(entry)
        self._after = past[-1].seq

    def _say(self, entry: Entry) -> None:
        """Say what the other one said."""
        self._after = entry.seq
        match entry.event:
            case Progress(progress, total, message):
                self._run.output.report(progress, total, message)
            case Started():
                self._begun()
            case Log() | Part() | Notified():  # `_REPEATED`
                self._run.output.emit_event(entry.event)
            case InputRequested() if self._ask_client is not None:
                question = self._ask(entry.event, self._ask_client)
                self._asking[entry.event.key] = asyncio.create_task(question)
            case InputReceived(key):
                asking = self._asking.pop(key, None)
                if asking is not None:
                    asking.cancel()
            case Restarted() | GivenBack():
                self._ask_no_more()  # whoever asked is gone
            case _:
                pass

    async def _ask(self, question: InputRequested, ask_client: Ask) -> None:
        params: dict[str, Any] = {} if question.params is None else decode_json(question.params)
        try:
            answered = InputAnswered(
                question.key, encode_json(await ask_client(question.method, params))
            )
        except MCPError as error:
            if not self._owns:
                return  # the one who asked may still hear it from somebody else
            refusal = error.error.model_dump(exclude_none=True)
            answered = InputAnswered(question.key, encode_json(refusal), True)
        await ask_run(self._run.journal, self._stream, answered)


async def _passing_over(cursor: Cursor) -> list[Entry]:
    """The next entries that there still are; a storage that is away is not waited for."""
    try:
        return await cursor.next()
    except EntriesTrimmed as error:
        cursor.after = error.first - 1
        return []


def result_gone_error() -> MCPError:
    """What is told of a run that was executed and whose result is no longer kept."""
    return MCPError(INVALID_PARAMS, GONE, dict(GONE_DATA))


def _outcome(last: Entry) -> dict[str, Any]:
    match last.event:
        case event if type(event) not in TERMINAL:
            raise result_gone_error()  # dropped while it was read
        case Completed(result):
            return decode_json(result)
        case Failed() as end:
            raise MirroredFailed(end)
        case end:
            raise MCPError(render.error_code(end) or INTERNAL_ERROR, render.error_message(end))

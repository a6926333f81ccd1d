"""A run that says what another one says: how a second request gets what the first one asked for.

It is a cursor like any other reader, on whichever process the other run is executed, and has a
stream of its own for its own request: its id, its token, its session.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types.jsonrpc import INTERNAL_ERROR

from headway.engine.inbox import ask, read_inbox
from headway.engine.run import Run
from headway.errors import EntriesTrimmed, JournalError
from headway.events import (
    Cancelled,
    CancelRequested,
    Completed,
    Entry,
    Failed,
    InputAnswered,
    InputReceived,
    InputRequested,
    Log,
    Notified,
    Part,
    Progress,
    decode_json,
    encode_json,
)
from headway.protocol import render
from headway.protocol.tasks import outstanding

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Following:
    """Has `run` repeat the run in `stream`, from behind entry `after`.

    What the other run asks is put to `ask`, where the client can be asked; whoever answers first
    is heard. With `means_the_work` a client that says that it wants this request cancelled wants
    the other run stopped too. A lost connection does not touch it.
    """

    def __init__(
        self,
        run: Run,
        stream: str,
        *,
        after: int = 0,
        ask: Ask | None = None,
        means_the_work: bool = False,
    ) -> None:
        self._after = after
        self._run = run
        self._stream = stream
        self._ask_client = ask
        self._means_the_work = means_the_work
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def result(self) -> dict[str, Any]:
        """The other run's result.

        Raises:
            MCPError: It ended with an error, was cancelled or was interrupted.
            StreamNotFound: There is no such run, or it has been forgotten.
        """
        try:
            return await self._follow()
        except asyncio.CancelledError:
            end = self._run.stopping
            if self._means_the_work and isinstance(end, Cancelled) and end.by == "client":
                wish = CancelRequested(end.by, end.reason)
                self._run.engine.inboxes.tell(self._stream, wish)
            raise
        finally:
            for task in self._asking.values():
                task.cancel()

    async def _follow(self) -> dict[str, Any]:
        journal = self._run.journal
        past = await journal.kept(self._stream)
        self._catch_up(past, outstanding(past, await self._inbox()))
        cursor = journal.cursor(self._stream, after=past[-1].seq)
        last = past[-1]
        while not cursor.done:
            try:
                for last in await cursor.next():
                    self._say(last)
            except EntriesTrimmed as error:
                cursor.after = error.first - 1
        return _outcome(last)

    async def _inbox(self) -> list[Entry]:
        try:
            return await read_inbox(self._run.journal, self._stream)
        except JournalError:
            return []

    def _catch_up(self, past: list[Entry], unanswered: list[InputRequested]) -> None:
        """Say what is not known yet, where it stands, and ask what nobody has answered."""
        standing = [entry for entry in past if isinstance(entry.event, Progress)][-1:]
        for entry in past:
            is_news = entry.seq > self._after or entry in standing or entry.event in unanswered
            if is_news and (entry.event in unanswered or type(entry.event) is not InputRequested):
                self._say(entry)
        self._after = past[-1].seq

    def _say(self, entry: Entry) -> None:
        """Say what the other one said."""
        self._after = entry.seq
        match entry.event:
            case Progress(progress, total, message):
                self._run.report(progress, total, message)
            case Log() | Part() | Notified():
                self._run.emit(entry.event)
            case InputRequested() if self._ask_client is not None:
                question = self._ask(entry.event, self._ask_client)
                self._asking[entry.event.key] = asyncio.create_task(question)
            case InputReceived(key):
                asking = self._asking.pop(key, None)
                if asking is not None:
                    asking.cancel()
            case _:
                pass

    async def _ask(self, question: InputRequested, ask_client: Ask) -> None:
        params: dict[str, Any] = {} if question.params is None else decode_json(question.params)
        try:
            answer = await ask_client(question.method, params)
        except MCPError:
            return  # the one who asked may still hear it from somebody else
        answered = InputAnswered(question.key, encode_json(answer))
        await ask(self._run.journal, self._stream, answered)


def _outcome(last: Entry) -> dict[str, Any]:
    match last.event:
        case Completed(result):
            return decode_json(result)
        case Failed(code, message, data):
            raise MCPError(code, message, None if data is None else decode_json(data))
        case end:
            raise MCPError(render.error_code(end) or INTERNAL_ERROR, render.error_message(end))

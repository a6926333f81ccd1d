"""A pipeline: scripts called in order, many with one round trip.

Calls that come while a round trip is under way go with the next one. So a process needs one
connection for writing and one for reading, however many runs and readers it has. And when Redis
does not answer, all waiting calls fail together, and not each after a time limit of its own.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from headway.errors import JournalError, JournalUnavailable
from headway.journal.redis.connections import Command, Connection
from headway.journal.redis.refusals import PASSING_CODES, code_of, explain_error
from headway.journal.redis.scripts import Script
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

ROUND_TRIP_TIMEOUT = 5.0
"""Seconds that a round trip may take, with all attempts: enough for Redis to restart, or for a
replica to take over. The SQLite journal waits as long for its file."""

MOST_CALLS = 256
"""Calls in a round trip, at most."""

MOST_BYTES = 4 * 1024 * 1024
"""Bytes that these calls carry, at most: they have to arrive within `ROUND_TRIP_TIMEOUT`."""

RETRY_PAUSES = (0.02, 0.5)
"""Seconds between attempts: the first, and the most."""

Arg = str | bytes | int


class _Call:
    """A script with its arguments, and the future of its result."""

    __slots__ = ("args", "bucket", "done", "is_known", "script", "size")

    def __init__(self, script: Script, bucket: str, args: Sequence[Arg]) -> None:
        self.script = script
        self.bucket = bucket
        self.args = args
        self.size = sum(len(arg) if not isinstance(arg, int) else 8 for arg in args)
        self.is_known = True
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def command(self) -> Command:
        """Return the command: with the script's digest, or its text if Redis does not know it."""
        if self.is_known:
            return ("EVALSHA", self.script.digest, 1, self.bucket, *self.args)
        return ("EVAL", self.script.text, 1, self.bucket, *self.args)


class Pipeline:
    """A queue of calls over one connection, sent in order.

    `shown` is the journal's URL as error messages may show it.
    """

    def __init__(
        self, link: Connection, shown: str, *, round_trip_timeout: float = ROUND_TRIP_TIMEOUT
    ) -> None:
        self._connection = link
        self._shown = shown
        self._timeout = round_trip_timeout
        self._queue: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, script: Script, bucket: str, *args: Arg) -> "asyncio.Future[Any]":
        """Call a script, and return the future of its result.

        It is done within twice the round trip's time limit. With `JournalUnavailable` Redis did not
        answer; then it is unknown whether the script was executed.
        """
        call = _Call(script, bucket, args)
        if self._closed:
            call.done.set_exception(JournalUnavailable(f"journal {self._shown} is closed"))
            return call.done
        self._queue.append(call)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run_queue())
            self._task.add_done_callback(self._on_task_end)
        return call.done

    async def close(self) -> None:
        """Finish the calls begun, then close the connection."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait([self._task])  # it may have been cancelled
        await self._connection.reset()

    async def _run_queue(self) -> None:
        while self._queue:
            batch = self._take_batch()
            try:
                await self._execute_batch(batch)
            except asyncio.CancelledError:
                self._fail_all(batch, JournalUnavailable(f"journal {self._shown} was left"))
                raise
            except Exception as error:
                if not isinstance(error, JournalError):
                    logger.exception("journal %s failed unexpectedly", self._shown)
                    error = JournalUnavailable(f"journal {self._shown} fails: {error}")
                # The calls that wait would fail in the same way, each after as long.
                self._fail_all(batch, error)

    def _fail_all(self, batch: Sequence[_Call], error: Exception) -> None:
        for call in (*batch, *self._queue):
            _fail_call(call, error)
        self._queue.clear()

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """Fail the calls of a task that was cancelled before its first step, as none of it ran."""
        if self._task is task:
            self._fail_all((), JournalUnavailable(f"journal {self._shown} was left"))

    def _take_batch(self) -> list[_Call]:
        batch: list[_Call] = []
        size = 0
        while self._queue and len(batch) < MOST_CALLS and (not batch or size < MOST_BYTES):
            call = self._queue.popleft()
            if not call.done.done():
                batch.append(call)
                size += call.size
        return batch

    async def _execute_batch(self, batch: list[_Call]) -> None:
        """Send a batch until each of its calls has a result.

        Raises:
            JournalUnavailable: Redis cannot be reached, or does not answer.
        """

        async def attempt() -> Exception | None:
            nonlocal batch
            while batch:
                replies = await self._connection.execute([call.command() for call in batch])
                batch, trouble = self._resolve_replies(batch, replies)
                if trouble is not None:
                    return trouble
            return None

        await retry_within(attempt, self._connection, self._shown, self._timeout)

    def _resolve_replies(
        self, batch: list[_Call], replies: list[Any]
    ) -> tuple[list[_Call], Exception | None]:
        """Resolve the calls that have a result; return those to send again, and why."""
        again: list[_Call] = []
        trouble: Exception | None = None
        for call, reply in zip(batch, replies, strict=True):
            if isinstance(reply, NoScriptError):
                call.is_known = False
                again.append(call)
            # Calls that are sent again keep their order among themselves, but come after those of
            # the batch that were done: writes carry the number that they follow, so the order is
            # checked anyway.
            elif isinstance(reply, Exception) and code_of(reply) in PASSING_CODES:
                trouble = reply
                again.append(call)
            elif isinstance(reply, Exception):
                failure = explain_error(self._shown, reply)
                failure.__cause__ = reply
                _fail_call(call, failure)
            elif not call.done.done():
                call.done.set_result(reply)
        return again, trouble


async def retry_within(
    attempt: Callable[[], Awaitable[Exception | None]],
    connection: Connection,
    shown: str,
    limit: float,
    *,
    opening: bool = False,
) -> None:
    """Call `attempt` until it succeeds, with a new connection each time.

    An attempt that fails raises the error or returns it.

    Raises:
        JournalUnavailable: Not within `limit` seconds, or it is of no use to try again.
        SetupError: While the journal is opened: because of how it is set up.
    """
    trouble: Exception | None = None
    pause = RETRY_PAUSES[0]
    try:
        async with asyncio.timeout(limit) as bound:
            # Looked at, too: a library that is cancelled in the wrong moment may call it an error.
            while not bound.expired():
                try:
                    trouble = await attempt()
                except (RedisError, OSError) as error:
                    trouble = error
                if trouble is None:
                    return
                await connection.reset()
                if code_of(trouble) not in {"", *PASSING_CODES}:
                    raise explain_error(shown, trouble, opening=opening) from trouble
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, RETRY_PAUSES[1])
            raise TimeoutError
    except TimeoutError:
        await connection.reset()
        if trouble is not None:
            raise explain_error(shown, trouble, opening=opening) from trouble
        text = f"journal {shown} did not answer within {limit:g} s"
        raise JournalUnavailable(text) from None


def _fail_call(call: _Call, error: Exception) -> None:
    if not call.done.done():
        call.done.set_exception(error)

"""Queues over Docket: the one module that knows it.

A task of Docket has a run's stream as its key, and nothing else. It is done as soon as the run is
started: from then on the journal says who owns the run, and recovers it when the owner dies.
Docket's redelivery is only for a worker that dies before that.

A queue may lose entries at any time, because a run that waits and is in no queue is enqueued again.
So entries that no worker takes expire, and so do the names of workers that were killed.
"""

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, cast

from docket import CurrentExecution, Docket, Execution, Worker
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError

from headway.errors import JournalUnavailable, SetupError
from headway.journal.redis.refusals import text_of
from headway.journal.redis.url import RedisAddress
from headway.log_lines import quiet_logger
from headway.queues import ExecuteQueued
from headway.queues.no_pickle import NoArguments, keep_pickles_out
from headway.queues.stray_entries import guard_entries

logger = quiet_logger(__name__)

TASK = "run"
"""Name of all tasks in Docket."""

RECONNECT = 1.0
"""Seconds until a Redis that is away is tried again."""

SHOWN_WITHIN = 5.0
"""Seconds that writing a queue may take."""

PUTS = 10
"""Runs that are enqueued at once: each takes a connection."""

KEPT = 3600.0
"""Seconds until an entry that no worker takes expires, and the name of a silent worker."""

_AWAY = (RedisError, RedisClusterException, OSError)

_CURRENT = CurrentExecution()


class DocketQueues:
    """The queues of one journal."""

    def __init__(self, place: RedisAddress, *, lease: float) -> None:
        keep_pickles_out()
        guard_entries()
        _silence_docket()
        self._place = place
        self._lease = lease
        self._dockets: dict[str, asyncio.Task[Docket]] = {}
        self._puts = asyncio.Semaphore(PUTS)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "DocketQueues":
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._dockets:
            _, late = await asyncio.wait(self._dockets.values(), timeout=SHOWN_WITHIN)
            for opening in late:
                opening.cancel()
            await asyncio.gather(*self._dockets.values(), return_exceptions=True)
        self._dockets.clear()
        await self._stack.aclose()

    async def put(self, queue: str, stream: str) -> None:
        """Add the run with this stream, unless it waits already.

        Raises:
            JournalUnavailable: The Redis cannot be written.
        """
        try:
            async with self._puts, asyncio.timeout(SHOWN_WITHIN):
                opened = await self._open_once(queue)
                execution = await opened.add(TASK, key=stream)()
                await _let_expire(opened, stream)
        except _AWAY as error:
            text = f"the queue {queue!r} cannot be written: {text_of(error)}"
            raise JournalUnavailable(text) from error
        if execution.disposition.value == "struck":
            logger.error("Docket was told to strike what is in the queue %r", queue)

    async def serve(self, queue: str, concurrency: int, do: ExecuteQueued) -> None:
        """Take runs out of a queue while fewer than `concurrency` of them are executed here.

        Cancellation: takes no more.

        Raises:
            SetupError: This user may not.
        """
        opened = await self._open_once(queue)
        try:
            await _forget_dead_workers(opened)
        except NoPermissionError as error:
            raise SetupError(
                f"journal {self._place.shown} does not let this user have the queue {queue!r}; "
                f"allow it all commands on the keys and channels {opened.prefix}:*"
            ) from error
        worker = Worker(
            opened,
            name=f"{socket.gethostname()}#{os.getpid()}#{secrets.token_hex(4)}",
            concurrency=concurrency,
            redelivery_timeout=timedelta(seconds=self._lease),
            reconnection_delay=timedelta(seconds=RECONNECT),
            schedule_automatic_tasks=False,
        )

        def done() -> None:
            worker.concurrency += 1

        async def run(execution: Execution = _CURRENT) -> None:
            if any(
                isinstance(each, NoArguments) and each.is_strange
                for each in _arguments_of(execution)
            ):
                logger.error(
                    "%s was in the queue %r with arguments: it is dropped", execution.key, queue
                )
                return
            # A run counts until it ends, and Docket's task is over long before.
            try:
                if await do(execution.key, done):
                    worker.concurrency -= 1
            except Exception:
                logger.exception("%s was not begun", execution.key)

        opened.register(run, names=[TASK])
        async with worker:
            await _run_forever(worker)

    async def _open_once(self, queue: str) -> Docket:
        """Return the docket of a queue. Opening it goes on when the caller is cancelled."""
        if queue not in self._dockets:
            name = f"{self._place.prefix}queue:{queue}"
            self._dockets[queue] = asyncio.create_task(self._open_docket(name))
        opening = self._dockets[queue]
        try:
            return await asyncio.shield(opening)
        except _AWAY:
            if opening.done() and self._dockets.get(queue) is opening:
                del self._dockets[queue]
            raise

    async def _open_docket(self, name: str) -> Docket:
        """Open a docket with this name, at the first server that answers."""
        *others, last = _docket_urls(self._place)
        for url in others:
            with suppress(*_AWAY):
                return await self._enter_docket(_Docket(name, url, execution_ttl=timedelta(0)))
        return await self._enter_docket(_Docket(name, last, execution_ttl=timedelta(0)))

    async def _enter_docket(self, docket: Docket) -> Docket:
        docket.tasks.clear()  # Docket brings some of its own
        docket.register(_run_elsewhere, names=[TASK])
        return await self._stack.enter_async_context(docket)


class _Docket(Docket):
    """A docket without Docket's cancellations: the journal says which runs are stopped.

    So a user that may subscribe to the journal's channels only is enough, and a worker needs no
    connection for it, which on a Cluster Docket would keep to the first node it saw.
    """

    @asynccontextmanager
    async def _pubsub(self) -> AsyncGenerator[Any]:
        yield _Silence()


class _Silence:
    """A subscription that is confirmed, and to which nothing is ever published."""

    def __init__(self) -> None:
        self._said: list[dict[str, str]] = []

    async def psubscribe(self, pattern: str) -> None:
        """Queue the confirmation that Docket waits for."""
        self._said.append({"type": "psubscribe", "channel": pattern})

    async def get_message(self, *, timeout: float, **_: object) -> dict[str, str] | None:  # noqa: ASYNC109
        """Return the confirmation; from then on None, each time after `timeout` seconds."""
        if self._said:
            return self._said.pop()
        return await asyncio.sleep(timeout)


async def _let_expire(docket: Docket, stream: str) -> None:
    """Make a run that was just enqueued expire, for the case that no worker takes it.

    Docket has a hash for it, and an entry in a stream. Both expire at the same time: a hash without
    an entry would be taken for a run that waits, and given to no worker.
    """
    async with docket.redis() as redis:
        key = docket.runs_key(stream)
        if await redis.ttl(key) == -1:
            await redis.expire(key, timedelta(seconds=KEPT))
            if entry := await redis.hget(key, "stream_id"):
                put_in = int(entry.partition(b"-")[0])  # in ms, by the clock of Redis
                await redis.xtrim(docket.stream_key, minid=put_in - int(KEPT * 1000))


async def _forget_dead_workers(docket: Docket) -> None:
    """Delete the consumers of workers that have long been silent; Redis would keep each name.

    Raises:
        NoPermissionError: This user may not.
    """
    async with docket.redis() as client:
        redis, group = cast("Redis", client), docket.worker_group_name
        try:
            for consumer in await redis.xinfo_consumers(docket.stream_key, group):
                if consumer["idle"] > KEPT * 1000:
                    await redis.xgroup_delconsumer(docket.stream_key, group, consumer["name"])
        except NoPermissionError:
            raise
        except _AWAY:  # also where there is no queue yet; the next one to start does it
            pass


async def _run_forever(worker: Worker) -> None:
    """Run a worker until it is cancelled. After any error of Docket it is started again.

    It takes a Cluster that is away for an error of its own.
    """
    is_over = False
    while not is_over:
        try:
            await worker.run_forever()
            is_over = True
        except* RedisClusterException:
            await asyncio.sleep(RECONNECT)
        except* Exception:
            logger.exception("%s cannot be served; it is tried again", worker.docket.name)
            await asyncio.sleep(RECONNECT)


async def _run_elsewhere() -> None:
    """Do nothing: the task of a process that only adds to a queue."""


def _arguments_of(execution: Execution) -> tuple[object, object]:
    return execution.args, execution.kwargs


def _docket_urls(place: RedisAddress) -> list[str]:
    """Return the URLs that Docket may be given: of a Cluster one for each node, shuffled."""
    if place.kind == "single":
        return [place.base]
    scheme, _, rest = place.base.partition("://")
    hosts = [f"{host}:{port}" for host, port in place.hosts]
    random.shuffle(hosts)
    user, at, tail = rest.rpartition("@")
    _, slash, path = tail.partition("/")
    if place.kind == "cluster":
        return [f"{scheme}+cluster://{user}{at}{host}{slash}{path}" for host in hosts]
    return [f"{scheme}+sentinel://{user}{at}{','.join(hosts)}/{place.service}/{path or 0}"]


def _silence_docket() -> None:
    """Silence Docket's own log, which is about its tasks: Headway logs what is wrong."""
    if not logger.isEnabledFor(logging.DEBUG):
        logging.getLogger("docket").setLevel(logging.CRITICAL)

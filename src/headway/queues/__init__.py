"""Where runs wait for a worker: queues in the Redis that the journal is in."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from headway.errors import SetupError
from headway.journal.redis.url import parse_redis_url, without_secrets

__all__ = ["ExecuteQueued", "Queues", "may_have_queues", "open_queues"]

ExecuteQueued = Callable[[str, Callable[[], None]], Awaitable[bool]]
"""Starts the run in a stream, and calls the function when it is done; False: it did not start."""


class Queues(Protocol):
    """The queues of one journal, in which runs wait for workers."""

    async def put(self, queue: str, stream: str) -> None:
        """Add the run with this stream, unless it waits already.

        Raises:
            JournalUnavailable: It cannot be written now.
        """
        ...

    async def serve(self, queue: str, concurrency: int, do: ExecuteQueued) -> None:
        """Take runs out of a queue while fewer than `concurrency` of them are executed here.

        Cancellation: takes no more.

        Raises:
            SetupError: The URL's user may not.
        """
        ...


def may_have_queues(url: str) -> bool:
    """Return whether workers can share the journal with this URL."""
    return "redis" in url.partition(":")[0] or url.startswith("unix:")


def open_queues(url: str, *, lease: float) -> AbstractAsyncContextManager[Queues]:
    """Return the queues beside the journal with this URL; they are open while entered.

    Raises:
        SetupError: There can be none, or what they need is not installed.
    """
    if not may_have_queues(url):
        raise SetupError(
            f"{without_secrets(url)!r} is no journal that workers can share; "
            "write --journal redis://host:6379/0"
        )
    place = parse_redis_url(url)
    try:
        from headway.queues.docket import DocketQueues
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("docket", "redis"):
            raise
        raise SetupError(
            "workers need Docket; install it with: pip install 'headway[workers]'"
        ) from error
    return DocketQueues(place, lease=lease)

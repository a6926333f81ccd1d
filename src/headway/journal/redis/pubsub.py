"""Publish/subscribe: one connection of a process, subscribed to the streams that are waited for.

The idea needed to read it: **a confirmed subscription is itself a notice.** No message comes for
entries that were written before the subscription. So when it is confirmed, the stream's readers
read once. Then no entry is missed: not at the beginning, nor in a new stream, nor after a lost
connection.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from itertools import islice

from redis.exceptions import RedisError

from headway.clock import Clock, Timer
from headway.journal.redis.connections import SocketConnection
from headway.journal.redis.refusals import explain_error
from headway.journal.store import OnChange
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

LOOK_INTERVAL = 30.0
"""Seconds after which a stream without messages is read all the same: while a Cluster is
rearranged, a message can be lost."""

PING_INTERVAL = 10.0
"""Seconds between two PINGs on the connection; without a reply within as long it is made anew."""

RECONNECT_PAUSES = (0.05, 1.0)
"""Seconds between attempts to connect: the first, and the most."""

SUBSCRIBE_AT_ONCE = 500
"""Channels in one command."""


class PubSub:
    """A `Watch` by Redis channels. `channel_of` returns the channel of a stream."""

    def __init__(
        self,
        wire: SocketConnection,
        shown: str,
        channel_of: Callable[[str], bytes],
        notice: OnChange,
        clock: Clock,
    ) -> None:
        self._socket = wire
        self._shown = shown
        self._channel_of = channel_of
        self._notice = notice
        self._clock = clock
        self._wanted: dict[bytes, str] = {}
        self._subscribed: set[bytes] = set()  # or about to be
        self._changed: set[bytes] = set()  # wanted or not wanted any more, since the last update
        self._last_news: dict[bytes, float] = {}  # when the last message came, oldest first
        self._work = asyncio.Event()
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, stream: str) -> None:
        """See `Watch.add`."""
        channel = self._channel_of(stream)
        self._wanted[channel] = stream
        self._changed.add(channel)
        self._work.set()
        if channel in self._subscribed:  # still; messages since `discard` were not passed on
            asyncio.get_running_loop().call_soon(self._notify_stream, channel)
        if self._task is None:
            self._task = asyncio.create_task(self._keep_listening())
            self._notify_quiet_streams()

    def discard(self, stream: str) -> None:
        """See `Watch.discard`."""
        channel = self._channel_of(stream)
        self._wanted.pop(channel, None)
        self._last_news.pop(channel, None)
        self._changed.add(channel)
        self._work.set()

    def close(self) -> None:
        """See `Watch.close`."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def wait_closed(self) -> None:
        """Close, and wait until the connection is closed."""
        self.close()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _keep_listening(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen_until_lost()
            except (RedisError, OSError, TimeoutError) as error:
                failures = 1 if self._last_news else failures + 1
                if failures == 1:
                    why = explain_error(self._shown, error)
                    logger.warning("news of other processes do not come at the moment: %s", why)
            finally:
                self._subscribed.clear()
                self._last_news.clear()
                await self._socket.reset()
            pause = min(RECONNECT_PAUSES[0] * 2**failures, RECONNECT_PAUSES[1])
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _listen_until_lost(self) -> None:
        """Receive messages until the connection fails.

        Raises:
            RedisError, OSError, TimeoutError: It failed.
        """
        # A new connection knows no subscription: all that is wanted is asked for again, and each
        # confirmation makes the readers look once.
        self._changed = set(self._wanted)
        await self._update_subscriptions()
        tasks = {
            asyncio.create_task(self._keep_subscribed()),
            asyncio.create_task(self._receive_messages()),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_subscribed(self) -> None:
        """Keep the subscriptions as wanted, and the connection alive."""
        while True:
            try:
                async with asyncio.timeout(PING_INTERVAL):
                    await self._work.wait()
            except TimeoutError:
                await self._socket.send([("PING",)])
            await self._update_subscriptions()

    async def _update_subscriptions(self) -> None:
        # Cleared before the sets are read: a stream that is added while the commands are sent sets
        # it again.
        self._work.clear()
        changed, self._changed = self._changed, set()
        wanted = changed & self._wanted.keys()
        new, old = wanted - self._subscribed, (changed - wanted) & self._subscribed
        self._subscribed.update(new)
        self._subscribed.difference_update(old)
        async with asyncio.timeout(PING_INTERVAL):
            await self._send_command("SUBSCRIBE", new)
            await self._send_command("UNSUBSCRIBE", old)

    async def _send_command(self, command: str, channels: Iterable[bytes]) -> None:
        rest = iter(channels)
        while some := tuple(islice(rest, SUBSCRIBE_AT_ONCE)):
            await self._socket.send([(command, *some)])

    async def _receive_messages(self) -> None:
        while True:
            async with asyncio.timeout(2 * PING_INTERVAL):
                message = await self._socket.read_message()
            match message:
                case [b"message" | b"subscribe", bytes(channel), *_]:  # whatever the message is
                    self._notify_stream(channel)
                case _:
                    pass

    def _notify_stream(self, channel: bytes) -> None:
        stream = self._wanted.get(channel)
        if stream is not None:
            self._last_news.pop(channel, None)
            self._last_news[channel] = self._clock.now()
            self._notice(stream)

    def _notify_quiet_streams(self) -> None:
        """Give notice of the streams that had no message for `LOOK_INTERVAL`, a batch at a time."""
        due = self._clock.now() - LOOK_INTERVAL
        for channel, heard in list(islice(self._last_news.items(), SUBSCRIBE_AT_ONCE)):
            if heard > due:
                break
            self._notify_stream(channel)
        self._timer = self._clock.call_later(LOOK_INTERVAL / 30, self._notify_quiet_streams)

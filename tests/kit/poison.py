"""Garbage in a journal: what somebody else writes where Headway keeps its entries."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from redis.asyncio import Redis
from redis.exceptions import WatchError

GARBAGE = b"\x80\x04garbage"
FUTURE = b'[%d,1.0,{"type":"dreamt"}]'
"""An entry that a later version may have written."""


async def poison(url: str, stream: str, seq: int, data: bytes = GARBAGE) -> None:
    """Replace the chunk that ends with entry `seq` of a stream that is stored."""
    data = data % seq if b"%d" in data else data
    if url.startswith("sqlite:"):
        _poison_file(Path(unquote(url.removeprefix("sqlite:///"))), stream, seq, data)
        return
    base, prefix = _parts(url)
    async with Redis.from_url(base) as redis:
        (key,) = [key async for key in redis.scan_iter(f"{prefix}*:e:{stream}")]
        while not await _poison_key(redis, key, seq, data):
            pass  # its writer has come between


async def _poison_key(redis: Redis, key: bytes, seq: int, data: bytes) -> bool:
    """Replace a chunk while nobody writes; False: somebody did."""
    async with redis.pipeline(transaction=True) as pipe:
        await pipe.watch(key)
        chunks: Any = await pipe.xrange(key)
        left = await pipe.pttl(key)
        assert any(identity == b"%d-0" % seq for identity, _ in chunks), chunks
        pipe.multi()
        pipe.delete(key)
        for identity, fields in chunks:
            planted: dict[Any, Any] = {"d": data} if identity == b"%d-0" % seq else fields
            pipe.xadd(key, planted, id=identity)
        pipe.pexpire(key, left)
        try:
            await pipe.execute()
        except WatchError:
            return False
        return True


def _poison_file(path: Path, stream: str, seq: int, data: bytes) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as db:
        found = db.execute(
            "UPDATE chunks SET data = ? WHERE last = ?"
            " AND stream = (SELECT id FROM streams WHERE name = ?)",
            (data, seq, stream),
        )
        assert found.rowcount == 1, f"{stream} has no chunk that ends with {seq}"
        db.commit()


async def damage(url: str, stream: str) -> None:
    """Make what the storage knows of a stream something else altogether."""
    if url.startswith("sqlite:"):
        path = Path(unquote(url.removeprefix("sqlite:///")))
        with closing(sqlite3.connect(path, timeout=30)) as db:
            db.execute("UPDATE streams SET first = 'x', last = 'y' WHERE name = ?", [stream])
            db.commit()
        return
    base, prefix = _parts(url)
    async with Redis.from_url(base) as redis:
        (key,) = [key async for key in redis.scan_iter(f"{prefix}*:s:{stream}")]
        await redis.delete(key)
        await redis.set(key, "a text", ex=60)


async def shout(url: str) -> None:
    """Publish garbage on every channel that somebody listens to."""
    base, prefix = _parts(url)
    async with Redis.from_url(base) as redis:
        for channel in await redis.pubsub_channels(f"{prefix}*"):
            for message in ("", b"\xff" * 1000, "{}", "*1\r\n$-1\r\n"):
                await redis.publish(channel, message)


def _parts(url: str) -> tuple[str, str]:
    base, _, query = url.partition("?")
    return base, query.partition("prefix=")[2]

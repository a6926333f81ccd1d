"""Print what is in a Redis as the commands that bring it there, in JSON; no expiry is kept.

$ .venv/bin/python tests/journal/c8ec9b6/redis_dump.py redis://127.0.0.1:6379/9 > redis.json
"""

import json
import sys
from itertools import chain
from typing import Any

from redis import Redis


def text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else repr(value)


def commands(redis: Any, key: bytes) -> list[list[str]]:
    """Return the commands that make one key."""
    kind = redis.type(key)
    name = text(key)
    if kind == b"string":
        return [["SET", name, text(redis.get(key))]]
    if kind == b"hash":
        return [["HSET", name, *map(text, chain(*sorted(redis.hgetall(key).items())))]]
    if kind == b"zset":
        rows = redis.zrange(key, 0, -1, withscores=True)
        return [["ZADD", name, *chain(*((text(score), text(member)) for member, score in rows))]]
    assert kind == b"stream", kind
    return [
        ["XADD", name, text(identity), *map(text, chain(*fields.items()))]
        for identity, fields in redis.xrange(key)
    ]


def main() -> None:
    redis: Any = Redis.from_url(sys.argv[1])
    made = [each for key in sorted(redis.keys()) for each in commands(redis, key)]
    sys.stdout.write(json.dumps(made, indent=1) + "\n")


main()

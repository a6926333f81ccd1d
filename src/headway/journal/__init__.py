"""The journal and its backends, opened by URL.

| URL | what it is |
|---|---|
| `memory:` | lives and dies with the process |
| `sqlite:///relative.db` | one file, shared by the processes of a machine |
| `sqlite:////absolute/path.db` | the same; four slashes before an absolute path |
| `redis://user:password@host:6379/0` | a Redis or Valkey; `rediss:` with TLS, `unix:` a socket |
| `redis+cluster://host:6379,host:6379` | a Redis Cluster, by some of its nodes |
| `redis+sentinel://host:26379,host:26379/service/0` | the Redis that Sentinels name |

Options of Redis URLs: `?prefix=` (what keys begin with, `headway:`), `?buckets=` (how many parts
the streams are spread over, 16), and those that redis-py takes."""

from collections.abc import Callable
from urllib.parse import unquote

from headway.clock import Clock
from headway.encryption import Encryption
from headway.errors import SetupError
from headway.journal.cursor import Cursor, next_available
from headway.journal.journal import Journal
from headway.journal.memory import memory_journal
from headway.journal.redis.url import parse_redis_url, without_secrets
from headway.journal.store import BlockingWriter, Head, RateStore, Store, Usage, Write
from headway.settings import Retention

__all__ = [
    "BlockingWriter",
    "Cursor",
    "Head",
    "Journal",
    "RateStore",
    "Store",
    "Usage",
    "Write",
    "next_available",
    "open_journal",
]


def _sqlite_journal(
    url: str, retention: Retention | None, clock: Clock | None, encryption: Encryption | None
) -> Journal:
    from headway.journal.sqlite.store import SqliteStore

    head, _, path = url.partition(":///")
    if head != "sqlite" or not path:
        raise SetupError(
            f"journal URL {url!r} names no file; write sqlite:///relative.db or "
            "sqlite:////absolute/path.db"
        )
    retention = retention or Retention()
    store = SqliteStore(unquote(path), retention=retention, encryption=encryption)
    return Journal(store, retention=retention, clock=clock)


def _memory_journal(
    url: str, retention: Retention | None, clock: Clock | None, _encryption: Encryption | None
) -> Journal:
    if url not in ("memory:", "memory://"):
        raise SetupError(f"journal URL {url!r}: a memory journal takes no path; write memory:")
    return memory_journal(retention=retention, clock=clock)


def _redis_journal(
    url: str, retention: Retention | None, clock: Clock | None, encryption: Encryption | None
) -> Journal:
    address = parse_redis_url(url)
    try:
        from headway.journal.redis.store import RedisStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        raise SetupError(
            f"journal {address.shown} needs redis-py; install it with: pip install 'headway[redis]'"
        ) from error
    retention = retention or Retention()
    store = RedisStore(address, retention=retention, encryption=encryption)
    return Journal(store, retention=retention, clock=clock)


_OpenBackend = Callable[[str, Retention | None, Clock | None, Encryption | None], Journal]

_BACKENDS: dict[str, _OpenBackend] = {
    "memory": _memory_journal,
    "sqlite": _sqlite_journal,
    "redis": _redis_journal,
    "rediss": _redis_journal,
    "unix": _redis_journal,
    "redis+cluster": _redis_journal,
    "rediss+cluster": _redis_journal,
    "redis+sentinel": _redis_journal,
    "rediss+sentinel": _redis_journal,
}


def open_journal(
    url: str,
    *,
    retention: Retention | None = None,
    clock: Clock | None = None,
    encryption: Encryption | None = None,
) -> Journal:
    """Return the journal that `url` names, not yet open (see `Journal.open`).

    With `encryption` all entries are stored encrypted. In a `memory:` journal none is stored.

    Raises:
        SetupError: There is no such backend, or the URL is malformed.
    """
    scheme = url.partition(":")[0]
    backend = _BACKENDS.get(scheme)
    if backend is None:
        known = ", ".join(f"{name}:" for name in _BACKENDS)
        shown = without_secrets(url)
        raise SetupError(f"journal URL {shown!r}: no backend {scheme!r}; there is {known}")
    journal = backend(url, retention, clock, encryption)
    journal.url, journal.encryption = url, encryption
    return journal

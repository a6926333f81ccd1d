"""The journal and its backends, opened by URL.

| URL | what it is |
|---|---|
| `memory:` | lives and dies with the process |
| `sqlite:///relative.db` | one file, shared by the processes of a machine |
| `sqlite:////absolute/path.db` | the same; four slashes before an absolute path |
"""

from collections.abc import Callable
from urllib.parse import unquote

from headway.clock import Clock
from headway.errors import SetupError
from headway.journal.base import Journal
from headway.journal.cursor import Cursor
from headway.journal.memory import memory_journal
from headway.journal.store import Head, Store, Write
from headway.settings import Retention

__all__ = ["Cursor", "Head", "Journal", "Store", "Write", "open_journal"]


def _sqlite(url: str, retention: Retention | None, clock: Clock | None) -> Journal:
    from headway.journal.sqlite import SqliteStore

    head, _, path = url.partition(":///")
    if head != "sqlite" or not path:
        raise SetupError(
            f"journal URL {url!r} names no file; write sqlite:///relative.db or "
            "sqlite:////absolute/path.db"
        )
    retention = retention or Retention()
    store = SqliteStore(unquote(path), retention=retention)
    return Journal(store, retention=retention, clock=clock)


def _memory(url: str, retention: Retention | None, clock: Clock | None) -> Journal:
    if url not in ("memory:", "memory://"):
        raise SetupError(f"journal URL {url!r}: a memory journal takes no path; write memory:")
    return memory_journal(retention=retention, clock=clock)


_BACKENDS: dict[str, Callable[[str, Retention | None, Clock | None], Journal]] = {
    "memory": _memory,
    "sqlite": _sqlite,
}


def open_journal(
    url: str, *, retention: Retention | None = None, clock: Clock | None = None
) -> Journal:
    """The journal that `url` names, not yet open (see `Journal.open`).

    Raises:
        SetupError: No such backend, or the URL is malformed.
    """
    scheme = url.partition(":")[0]
    backend = _BACKENDS.get(scheme)
    if backend is None:
        known = ", ".join(f"{name}:" for name in _BACKENDS)
        raise SetupError(f"journal URL {url!r}: no backend {scheme!r}; there is {known}")
    return backend(url, retention, clock)

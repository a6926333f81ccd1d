"""The `memory:` journal: fast, bounded, gone with the process."""

from headway.clock import Clock
from headway.journal.journal import Journal
from headway.settings import Retention

URL = "memory:"


def memory_journal(*, retention: Retention | None = None, clock: Clock | None = None) -> Journal:
    """Return a journal without storage: the reference that the other backends are held against."""
    journal = Journal(None, retention=retention, clock=clock)
    journal.url = URL
    return journal

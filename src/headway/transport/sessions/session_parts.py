"""The parts of a session: what its stream says, and how this process uses it."""

from msgspec import Raw

from headway.events import (
    Alive,
    Event,
    InputReceived,
    InputRequested,
    LevelSet,
    SessionClosed,
    SessionOpened,
    Subscribed,
    Unsubscribed,
)
from headway.protocol.eras import ERAS, LOG_LEVELS, Era, rank_of


class SessionFacts:
    """All that the stream of a session says, as far as it was read here."""

    __slots__ = (
        "asked", "client", "era", "is_elsewhere", "is_known", "is_open", "level", "owner", "seq",
        "subscriptions", "summary_seq",
    )  # fmt: skip

    def __init__(self, owner: str) -> None:
        self.owner = owner
        """The principal that opened the session."""
        self.era: Era = ERAS["2025-11-25"]
        self.client: Raw | None = None
        """The client's `initialize` params."""
        self.level = ""
        """The lowest level of log messages that the client asked for; empty: all."""
        self.subscriptions: dict[str, int] = {}
        """URIs of resources, and the last change that was known when the client subscribed."""
        self.asked: set[str] = set()
        """Ids of the questions outside of any request that wait for an answer."""
        self.seq = 0
        """The last entry of the stream that was read."""
        self.summary_seq = 0
        """The last entry that says the whole state of the session."""
        self.is_known = False
        """Whether its `SessionOpened` was read."""
        self.is_open = True
        self.is_elsewhere = False
        """Whether another process has been asked something in it."""

    @property
    def level_rank(self) -> int:
        """The rank of log messages below which they are not for the client."""
        return rank_of(self.level or LOG_LEVELS[0])

    def apply_event(self, event: Event, process: str) -> None:
        """Take up one event of the stream; `process` is the name of this process."""
        match event:
            case SessionOpened():
                self._apply_opened(event)
            case LevelSet(level):
                self.level = level
            case Subscribed(uri, changes):
                self.subscriptions[uri] = changes
            case Unsubscribed(uri):
                self.subscriptions.pop(uri, None)
            case InputRequested(key):
                self.asked.add(key)
            case InputReceived(key):
                self.asked.discard(key)
            case SessionClosed():
                self.is_open = False
            case Alive(by):
                self.is_elsewhere |= by not in ("", process)
            case _:
                pass

    def _apply_opened(self, opened: SessionOpened) -> None:
        self.is_known = True
        self.owner, self.client = opened.owner, opened.params
        self.era = ERAS.get(opened.version, self.era)
        self.level = opened.level
        self.subscriptions = dict(opened.subscriptions)


class SessionUsage:
    """How a session is used in this process, and what it costs."""

    __slots__ = ("charged", "holders", "opened", "signed", "used")

    def __init__(self, now: float) -> None:
        self.opened = self.used = self.signed = now
        """When it was taken up here, last used, and last said to be alive: monotonic seconds."""
        self.holders = 0
        """Requests and open streams that keep it alive."""
        self.charged = 0
        """Bytes that it is charged in this process."""

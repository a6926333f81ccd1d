"""Every exception of Headway, split by who has to act.

```
HeadwayError
├── SetupError            you, before serving: a bad setting, a missing file, a busy port
├── ProtocolError         the client broke a rule; carries the JSON-RPC code and HTTP status
├── ToolTimeout           the tool's author or operator: the tool ran into its limit
└── JournalError          the operator, or code that writes to a journal
    ├── StreamNotFound    also "expired" and "not yours": one answer for all three
    │   └── ResultDropped   it is the caller's and was executed, and is no longer kept
    ├── StreamEnded       an append after the terminal entry
    ├── Conflict          another writer is ahead: stop writing this stream
    ├── EntriesTrimmed    a read below the oldest entry kept; carries its `seq`
    │   └── EntriesUnreadable  what is there is no entry of this version's; go on behind it
    ├── StreamDamaged     what is stored of one stream is not Headway's; all others can be used
    │   └── StreamLocked    it is encrypted with a key that this process does not have
    └── JournalUnavailable  the storage cannot be reached or written; safe to try again
CodeEnded                 the server's author: code of a start or a hook ended with `sys.exit`
RunCancelled              not an error: raised inside a tool whose run was cancelled
```
"""

from typing import NamedTuple


class Challenge(NamedTuple):
    """The error of a bearer token, as RFC 6750 names it, and what a better one must have."""

    error: str
    scopes: tuple[str, ...] = ()
    """The scopes that the request needs besides those of every request."""


class HeadwayError(Exception):
    """The root of what Headway raises on purpose."""


class SetupError(HeadwayError):
    """The server cannot start as configured; the text says what to change."""


class ProtocolError(HeadwayError):
    """The client's message is refused: a JSON-RPC error with an HTTP status.

    `retry_after`, in seconds, becomes the `Retry-After` header where it is set. `limit` is the
    setting of the limit that it is refused for; the client finds it in the error's data.
    `challenge` is what its token does not have, for the `WWW-Authenticate` header.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: int = 400,
        data: object = None,
        retry_after: int | None = None,
        limit: str | None = None,
        challenge: Challenge | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.data = {"limit": limit} if data is None and limit is not None else data
        self.retry_after = retry_after
        self.limit = limit
        self.challenge = challenge


class ToolTimeout(HeadwayError):
    """A run did not finish inside its time limit."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"did not finish within its limit of {limit:g} s")
        self.limit = limit


class JournalError(HeadwayError):
    """Something about the journal."""


class StreamNotFound(JournalError):
    """No such stream, or it has expired, or it is not the caller's to see."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"no stream {stream!r} in the journal (it may have expired)")
        self.stream = stream


class ResultDropped(StreamNotFound):
    """The run was executed and has ended, and its entries were dropped for want of room."""


class StreamEnded(JournalError):
    """An append to a stream whose terminal entry is written."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"stream {stream!r} has ended; nothing can follow its terminal entry")
        self.stream = stream


class Conflict(JournalError):
    """An append named a `seq` that is not the stream's last: another process wrote."""

    def __init__(self, stream: str, *, after: int, last: int) -> None:
        super().__init__(f"append to {stream!r} after {after}, but its last entry is {last}")
        self.stream = stream
        self.after = after
        self.last = last


class EntriesTrimmed(JournalError):
    """Entries above the cursor are gone; `first` is the oldest one kept."""

    def __init__(self, stream: str, *, first: int) -> None:
        super().__init__(f"entries of {stream!r} before {first} have been trimmed")
        self.stream = stream
        self.first = first


class EntriesUnreadable(EntriesTrimmed):
    """Entries above the cursor exist and cannot be read: another program's, or a later version's.

    They are passed over like trimmed ones; `first` is the next readable one.
    """

    def __init__(self, stream: str, *, first: int) -> None:
        super().__init__(stream, first=first)
        self.args = (f"entries of {stream!r} before {first} cannot be read",)


class StreamDamaged(JournalError):
    """The stored entries of one stream are not Headway's; all other streams can be used."""


class StreamLocked(StreamDamaged):
    """Entries of one stream are encrypted with a key that this process does not have.

    Or they are not encrypted and have to be. They may be right: whoever cannot read them leaves
    them as they are.
    """


class JournalUnavailable(JournalError):
    """The journal's storage cannot be opened, read or written."""


class CodeEnded(Exception):
    """An author's code raised an exception that ends processes or tasks; `__cause__` is that one.

    Raised in its place, because it must not go through an event loop.
    """


class RunCancelled(BaseException):
    """Raised by calls into Headway inside a run that has been cancelled.

    Like `asyncio.CancelledError` it is no `Exception`, so a tool's own `except Exception`
    does not swallow it. It reaches sync code in threads, which nothing else can interrupt.
    """


def journal_away() -> ProtocolError:
    """Return the refusal of what needs a journal that cannot be read or written at the moment."""
    return ProtocolError(
        -32603,  # JSON-RPC: internal error
        "The journal cannot be used at the moment; try again in a few seconds",
        status=503,
        retry_after=5,
    )

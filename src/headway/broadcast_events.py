"""Events that processes broadcast to each other, beside the streams that they are about.

A notice is a hint: the process that reads one looks at the journal, which has the truth. A notice
that comes late or twice does no harm.
"""

from msgspec import Raw, Struct


class Changed(Struct, frozen=True, tag="changed", omit_defaults=True, gc=False):
    """A list of the server has changed, or the resource `uri`: subscribers are notified."""

    method: str
    uri: str = ""
    by: str = ""
    """The process that published it."""


class SessionTold(Struct, frozen=True, tag="session_told", gc=False):
    """There is more in a session's stream, for the processes that hold something of it."""

    session: str


class RequestCancelled(Struct, frozen=True, tag="request_cancelled", omit_defaults=True, gc=False):
    """A client wants a request stopped, which another process handles."""

    session: str
    request: Raw
    """The JSON-RPC id: the only name that its client has for it."""
    reason: str | None = None
    scopes: list[str] | None = None
    """The scopes of the client's token; None where they do not count."""


class ReaderCame(Struct, frozen=True, tag="reader_came", omit_defaults=True, gc=False):
    """A client reads a stream anew, in the process `by`: earlier readers elsewhere end.

    With a `listener` it is one of several streams: only the one of that name ends, and others wait
    until this reader has left, or the process with the tag `process` is gone. Where `left` is set,
    it is the number of the notice with which a reader came that has left.
    """

    stream: str
    by: str
    listener: str = ""
    process: str = ""
    left: int = 0

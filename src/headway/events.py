"""What can happen in a stream: the vocabulary, as types.

Rules of this file:

- An event states a fact. It knows no JSON-RPC id, no progress token and no era: those belong
  to one reader and are added when an entry is rendered.
- Journals outlive releases: a new field needs a default, and a tag is never given twice.
- JSON that only passes through (`data`, `value`, `result`, `params`) is kept as the bytes it
  will have on the wire, so it is encoded once, however many readers it has.

- No event can be part of a cycle, so the garbage collector need not look at them (`gc=False`):
  a busy server holds very many.

Five kinds of stream share the vocabulary: a run's (`Accepted` to one of `TERMINAL`), the inbox of
one (`HandedOver` to `InboxClosed`), that of a key by which one is found (`Claimed` to `Released`),
a 2025 session's (`SessionOpened` to `SessionClosed`) and a process's (`Alive` to `ProcessLeft`).
"""

from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Raw, Struct

if TYPE_CHECKING:
    MaybeRaw = Raw | None
else:
    # msgspec decodes no `Raw | None`: any value but null is refused. As the default, None is
    # left out of the JSON and comes back by itself.
    MaybeRaw = Raw


class Accepted(Struct, frozen=True, tag="accepted", omit_defaults=True, gc=False):
    """A request became a run. First entry of every run."""

    method: str
    target: str | None = None
    """What the method is about: the tool, prompt or resource named by the request."""
    owner: str = ""
    """The session and principal that may read, answer and cancel the run."""
    version: str = ""
    """The protocol revision of the request, of a run that may be restarted."""
    params: MaybeRaw = None
    """What was asked, of a run that may be restarted."""


class Started(Struct, frozen=True, tag="started", omit_defaults=True, gc=False):
    """The handler began to execute."""


class Restarted(Struct, frozen=True, tag="restarted", gc=False):
    """The process that executed the run died; another one begins it anew."""

    process: str
    """The tag of the one that does."""
    attempt: int
    """2 for the first restart."""


class GivenBack(Struct, frozen=True, tag="given_back", gc=False):
    """The process that executed the run stops in order; another one may begin it anew."""


class Progress(Struct, frozen=True, tag="progress", omit_defaults=True, gc=False):
    """How far the run is. Within a stream `progress` strictly increases."""

    progress: int | float
    total: int | float | None = None
    message: str | None = None


class Log(Struct, frozen=True, tag="log", omit_defaults=True, gc=False):
    """A log message of the handler."""

    level: str
    data: Raw
    logger: str | None = None


class Part(Struct, frozen=True, tag="part", gc=False):
    """A partial result, as JSON."""

    value: Raw


class Notified(Struct, frozen=True, tag="notified", omit_defaults=True, gc=False):
    """Any other notification for the client, passed through."""

    method: str
    params: MaybeRaw = None


class InputRequested(Struct, frozen=True, tag="input_requested", omit_defaults=True, gc=False):
    """The handler asks the client something and waits. `key` is unique for all time."""

    key: str
    method: str
    params: MaybeRaw = None


class InputReceived(Struct, frozen=True, tag="input_received", gc=False):
    """The question `key` was answered, or given up."""

    key: str


class Completed(Struct, frozen=True, tag="completed", gc=False):
    """Terminal: the handler returned `result` (a tool's own error is a result too)."""

    result: Raw


class Failed(Struct, frozen=True, tag="failed", omit_defaults=True, gc=False):
    """Terminal: the request ends with a JSON-RPC error."""

    code: int
    message: str
    data: MaybeRaw = None


class Cancelled(Struct, frozen=True, tag="cancelled", omit_defaults=True, gc=False):
    """Terminal: the run was stopped."""

    by: str
    """`client`: it said so; `connection`: it was lost; `session`: it was closed; `server`."""
    reason: str | None = None


class Interrupted(Struct, frozen=True, tag="interrupted", omit_defaults=True, gc=False):
    """Terminal: the process that executed the run went away."""

    reason: str


class SessionOpened(Struct, frozen=True, tag="session_opened", omit_defaults=True, gc=False):
    """A 2025 client shook hands. First entry of every session."""

    version: str
    params: Raw
    """The client's `initialize` params."""
    owner: str = ""
    """The principal that opened the session."""


class SessionReady(Struct, frozen=True, tag="session_ready", gc=False):
    """The client sent `notifications/initialized`."""


class LevelSet(Struct, frozen=True, tag="level_set", gc=False):
    """The client asked for log messages from `level` upwards."""

    level: str


class Subscribed(Struct, frozen=True, tag="subscribed", gc=False):
    """The client wants to hear of changes of the resource `uri`."""

    uri: str


class Unsubscribed(Struct, frozen=True, tag="unsubscribed", gc=False):
    """The client no longer wants to hear of changes of the resource `uri`."""

    uri: str


class Alive(Struct, frozen=True, tag="alive", gc=False):
    """A process is there: it may write its runs until its lease is over. Or a session is in use."""


class ProcessLeft(Struct, frozen=True, tag="process_left", omit_defaults=True, gc=False):
    """Terminal: a process stopped, or was found gone."""

    reason: str = ""


class SessionClosed(Struct, frozen=True, tag="session_closed", omit_defaults=True, gc=False):
    """Terminal: the session is over; its id means nothing any more."""

    reason: str = ""


class HandedOver(Struct, frozen=True, tag="handed_over", gc=False):
    """A run can go on without its request: its client has a handle, a key or the run's own id.
    First entry of its inbox."""

    created: float
    """When the run began, in seconds since 1970."""
    ttl: float
    """How long after that the handle may be of use, in seconds."""


class CancelRequested(Struct, frozen=True, tag="cancel_requested", omit_defaults=True, gc=False):
    """Somebody who does not execute the run wants it stopped."""

    by: str
    reason: str | None = None


class InputAnswered(Struct, frozen=True, tag="input_answered", gc=False):
    """The client's answer to the run's question `key`: the result object it would have sent."""

    key: str
    result: Raw


class InboxClosed(Struct, frozen=True, tag="inbox_closed", gc=False):
    """Terminal: the run has ended; nobody reads its inbox any more."""


class Claimed(Struct, frozen=True, tag="claimed", omit_defaults=True, gc=False):
    """A run can be found by the key that this stream stands for."""

    stream: str
    """The run's stream."""
    fingerprint: str = ""
    """What was asked with the key; who repeats it has to ask the same."""


class Released(Struct, frozen=True, tag="released", gc=False):
    """Terminal: the run that the key names has ended; both are kept for their time."""


Terminal = (
    Completed
    | Failed
    | Cancelled
    | Interrupted
    | SessionClosed
    | ProcessLeft
    | InboxClosed
    | Released
)
Event = (
    Accepted
    | Started
    | Restarted
    | GivenBack
    | Progress
    | Log
    | Part
    | Notified
    | InputRequested
    | InputReceived
    | Completed
    | Failed
    | Cancelled
    | Interrupted
    | SessionOpened
    | SessionReady
    | LevelSet
    | Subscribed
    | Unsubscribed
    | SessionClosed
    | Alive
    | ProcessLeft
    | HandedOver
    | CancelRequested
    | InputAnswered
    | InboxClosed
    | Claimed
    | Released
)

TERMINAL: frozenset[type] = frozenset(
    {Completed, Failed, Cancelled, Interrupted, SessionClosed, ProcessLeft, InboxClosed, Released}
)
"""The events that end a stream."""


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """An event as stored: its place in the stream and when it was written."""

    seq: int
    """1, 2, 3 … within the stream, without gaps."""
    time: float
    """Seconds since 1970, UTC."""
    event: Event


_encoder = msgspec.json.Encoder()
_entries = msgspec.json.Decoder(list[Entry])


def encode_json(value: object) -> Raw:
    """Any JSON value as bytes. A lone surrogate (a file name can hold one) becomes U+FFFD.

    Raises:
        TypeError: The value is not JSON and nothing JSON can be made of it.
    """
    try:
        return Raw(_encoder.encode(value))
    except UnicodeEncodeError:
        return Raw(_encoder.encode(_without_surrogates(value)))


def decode_json(data: Raw | bytes) -> Any:
    """The value that `data` encodes."""
    return msgspec.json.decode(data)


def encode_entries(entries: list[Entry]) -> bytes:
    """Entries as a journal stores them: a JSON array of `[seq, time, event]`.

    As in `encode_json`, a lone surrogate becomes U+FFFD.
    """
    try:
        return _encoder.encode(entries)
    except UnicodeEncodeError:
        return _encoder.encode([_clean(entry) for entry in entries])


def decode_entries(data: bytes) -> list[Entry]:
    """What `encode_entries` wrote."""
    return _entries.decode(data)


def size_of(event: Event) -> int:
    """About how many bytes the event takes, for limits; exact where it matters."""
    if type(event) is Progress:
        return 96 if event.message is None else 96 + len(event.message)
    total = 64
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, Raw):
            total += len(cast("bytes", value))
        elif isinstance(value, str):
            total += len(value)
    return total


def encodable(event: Event) -> Event:
    """The same event with U+FFFD for each lone surrogate in its texts."""
    fields = ((name, getattr(event, name)) for name in event.__struct_fields__)
    texts = {name: _without_surrogates(value) for name, value in fields if isinstance(value, str)}
    return msgspec.structs.replace(event, **texts)


def _clean(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, event=encodable(entry.event))


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {_without_surrogates(key): _without_surrogates(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in cast("list[object]", value)]
    if isinstance(value, Struct):
        return _without_surrogates(msgspec.to_builtins(value))
    return value

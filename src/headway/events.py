"""What can happen in a stream: the vocabulary, as types.

Rules of this file:
- An event states a fact. It knows no JSON-RPC id, no progress token and no era: those belong
  to one reader and are added when an entry is rendered.
- Journals outlive releases: a new field needs a default, and a tag is never given twice.
- JSON that only passes through (`data`, `value`, `result`, `params`) is kept as the bytes it
  will have on the wire, so it is encoded once, however many readers it has.
- No event can be part of a cycle, so the garbage collector need not look at them (`gc=False`).

Nine kinds of stream share the vocabulary: a run's (`Accepted` to one of `TERMINAL`), its inbox
(`HandedOver` to `InboxClosed`) and its questions (`InputRequested` to `InboxClosed`), what it can
be begun anew with (`Restartable` to `Forgotten`), that of a key by which one is found (`Claimed` to
`Released`), a 2025 session's (`SessionOpened` to `SessionClosed`), a process's and that of what it
is asked (`Alive` to `ProcessLeft`), and boards, on which one tells all (`Alive`, and `notices`).
"""

from typing import TYPE_CHECKING, cast, get_args

import msgspec
from msgspec import Raw, Struct

from headway.jsonable import as_base_type, without_surrogates
from headway.jsonable import decode_json as decode_json
from headway.jsonable import encode_json as encode_json
from headway.notices import Changed, ReaderCame, RequestCancelled, SessionTold

if TYPE_CHECKING:
    MaybeRaw = Raw | None
else:  # msgspec decodes no `Raw | None`: any value but null is refused. The default is left out.
    MaybeRaw = Raw


class Accepted(Struct, frozen=True, tag="accepted", omit_defaults=True, gc=False):
    """A request became a run. First entry of every run."""

    method: str
    target: str | None = None
    """What the method is about: the tool, prompt or resource named by the request."""
    owner: str = ""
    """The session and principal that may read, answer and cancel the run."""
    follows: str = ""


class Started(Struct, frozen=True, tag="started", omit_defaults=True, gc=False):
    """The handler began to execute."""


class Restarted(Struct, frozen=True, tag="restarted", omit_defaults=True, gc=False):
    """The process that executed the run died; another one begins it anew."""

    process: str
    """The tag of the one that does."""
    attempt: int
    """2 for the first restart."""
    at: int = 0
    """The run's entry at the last checkpoint: what came after it is done again."""


class TakenByWorker(Struct, frozen=True, tag="taken", gc=False):
    """A worker has the run now: its first attempt."""

    process: str


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


class InputReceived(Struct, frozen=True, tag="input_received", omit_defaults=True, gc=False):
    """The question `key` was answered, or given up."""

    key: str
    given_up: bool = False


class Completed(Struct, frozen=True, tag="completed", gc=False):
    """Terminal: the handler returned `result` (a tool's own error is a result too)."""

    result: Raw


class Failed(Struct, frozen=True, tag="failed", omit_defaults=True, gc=False):
    """Terminal: the request ends with a JSON-RPC error."""

    code: int
    message: str
    data: MaybeRaw = None
    raised: str | None = None  # what an exception said that the handler let out


class Cancelled(Struct, frozen=True, tag="cancelled", omit_defaults=True, gc=False):
    """Terminal: the run was stopped."""

    by: str
    """`client`: it said so; `connection`: it was lost; `session`: it was closed; `server`."""
    reason: str | None = None
    never_executed: bool = False
    """The call was accepted and never executed: another run has its key, or nobody wants it."""


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
    changes: int = 0
    """The last change that was known then: the client hears of those behind it."""
    level: str = ""
    """This and the next two: said again in the middle of a long stream, whose beginning may go."""
    subscriptions: dict[str, int] = {}
    is_ready: bool = False


class SessionReady(Struct, frozen=True, tag="session_ready", gc=False):
    """The client sent `notifications/initialized`."""


class LevelSet(Struct, frozen=True, tag="level_set", gc=False):
    """The client asked for log messages from `level` upwards."""

    level: str


class Subscribed(Struct, frozen=True, tag="subscribed", omit_defaults=True, gc=False):
    """The client wants to hear of changes of the resource `uri`."""

    uri: str
    changes: int = 0
    """The last change that was known then."""


class Unsubscribed(Struct, frozen=True, tag="unsubscribed", gc=False):
    """The client no longer wants to hear of changes of the resource `uri`."""

    uri: str


class StreamPositionSent(Struct, frozen=True, tag="heard", omit_defaults=True, gc=False):
    """The GET stream `listener` has sent its session's stream and the changes, from `begin` on."""

    seq: int
    changes: int
    listener: str = ""
    begin: int = 0
    begin_changes: int = 0


class Alive(Struct, frozen=True, tag="alive", omit_defaults=True, gc=False):
    """A process is there: it may write its runs until its lease is over. Or a session is in use."""

    by: str = ""  # the process in which a session is


class ProcessLeft(Struct, frozen=True, tag="process_left", omit_defaults=True, gc=False):
    """Terminal: a process stopped, or was found gone."""

    reason: str = ""


class SessionClosed(Struct, frozen=True, tag="session_closed", omit_defaults=True, gc=False):
    """Terminal: the session is over; its id means nothing any more."""

    reason: str = ""


class HandedOver(Struct, frozen=True, tag="handed_over", gc=False):
    """A run can go on without its request: its client has a handle. First entry of its inbox."""

    created: float
    """When the run began, in seconds since 1970."""
    ttl: float
    """How long after that the handle may be of use, in seconds."""


class CancelRequested(Struct, frozen=True, tag="cancel_requested", omit_defaults=True, gc=False):
    """Somebody who does not execute the run wants it stopped."""

    by: str
    reason: str | None = None


class InputAnswered(Struct, frozen=True, tag="input_answered", omit_defaults=True, gc=False):
    """The client's answer to the question `key`: the result object it would have sent."""

    key: str
    result: Raw
    is_error: bool = False
    """It is a JSON-RPC error object instead."""


class ControlMessage(Struct, frozen=True, tag="ordered", gc=False):
    """Somebody who does not execute the run in `stream` asks its process this."""

    stream: str
    what: CancelRequested | InputAnswered


class InboxClosed(Struct, frozen=True, tag="inbox_closed", gc=False):
    """Terminal: the run has ended; nobody reads its inbox any more."""


class Claimed(Struct, frozen=True, tag="claimed", omit_defaults=True, gc=False):
    """A run can be found by the key that this stream stands for."""

    stream: str
    """The run's stream."""
    fingerprint: str = ""
    """What was asked with the key; who repeats it has to ask the same."""
    is_void: bool = False
    """The run is not begun after all: its claim before this one is taken back."""


class Released(Struct, frozen=True, tag="released", gc=False):
    """Terminal: the run that the key names has ended; both are kept for their time."""


class RequestStored(Struct, frozen=True, tag="restartable", omit_defaults=True, gc=False):
    """A run may be begun anew, with this. First entry of its checkpoints."""

    method: str
    target: str | None
    owner: str
    version: str
    """The protocol revision of the request."""
    params: Raw
    """What was asked."""
    principal: str = ""
    follows: str = ""
    """The stream of the run that it only repeats."""
    owns: bool = False
    """What it repeats is a worker's, for it alone; then whether its client can come back for it."""
    is_found: bool = False
    queue: str = ""
    """Where it waits for a worker, if it does; then the key that names it."""
    key: str = ""
    client: MaybeRaw = None
    """The `initialize` params of its client, and what its access token says, never the token."""
    access: MaybeRaw = None
    can_ask: bool = False


class ItemDone(Struct, frozen=True, tag="item_done", omit_defaults=True, gc=False):
    """A track of the run has finished an item, and it is not to be done again."""

    track: str
    item: str
    """A digest of what names the item."""
    at: int = 0
    """The run's last entry when it was."""


class Checkpointed(Struct, frozen=True, tag="checkpointed", omit_defaults=True, gc=False):
    """The tool's own account of how far it is; only the newest counts."""

    value: Raw
    at: int = 0
    """The run's last entry when it was given."""


class RestartSummary(Struct, frozen=True, tag="remembered", omit_defaults=True, gc=False):
    """All that the entries before this one say; they need not be kept."""

    begun: RequestStored
    restarts: list[Restarted]
    returned: int
    """How many of the restarts came after a process that stopped in order."""
    done: dict[str, list[str]]
    """The items that are done, by track."""
    at: int = 0
    """The run's last entry at the newest of these."""
    value: MaybeRaw = None
    owner: str = ""


class Forgotten(Struct, frozen=True, tag="forgotten", gc=False):
    """Terminal: the run has ended and will not be begun anew."""


Terminal = (
    Completed
    | Failed
    | Cancelled
    | Interrupted
    | SessionClosed
    | ProcessLeft
    | InboxClosed
    | Released
    | Forgotten
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
    | SessionOpened
    | SessionReady
    | LevelSet
    | Subscribed
    | Unsubscribed
    | StreamPositionSent
    | Changed
    | SessionTold
    | RequestCancelled
    | ReaderCame
    | Alive
    | HandedOver
    | CancelRequested
    | InputAnswered
    | ControlMessage
    | Claimed
    | RequestStored
    | TakenByWorker
    | ItemDone
    | Checkpointed
    | RestartSummary
    | Terminal
)

TERMINAL: frozenset[type] = frozenset(get_args(Terminal))
"""The events that end a stream."""


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """An event as stored: its place in the stream and when it was written."""

    seq: int
    """1, 2, 3 … within the stream, without gaps."""
    time: float
    """Seconds since 1970, UTC."""
    event: Event


_encoder = msgspec.json.Encoder(enc_hook=as_base_type)
_entries = msgspec.json.Decoder(list[Entry])


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


def as_encodable(event: Event) -> Event:
    """The same event with U+FFFD for each lone surrogate in its texts."""
    fields = ((name, getattr(event, name)) for name in event.__struct_fields__)
    texts = {name: without_surrogates(value) for name, value in fields if isinstance(value, str)}
    return msgspec.structs.replace(event, **texts)


def _clean(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, event=as_encodable(entry.event))

"""All events that a stream can hold, as types.

Rules of this file:
- An event states a fact, and knows no JSON-RPC id, progress token or era: they are one reader's.
- Journals outlive releases: a new field needs a default, and a tag is never given twice.
- JSON that only passes through (`data`, `value`, `result`) is kept as the bytes of the wire.
- No event can be part of a cycle, so the garbage collector need not look at them (`gc=False`).

Several kinds of stream share these types (`stream_names.py`): a run's (`Accepted` to one of
`TERMINAL`), what it is begun anew with (`RequestStored` to `Forgotten`), a process's (`Alive` to
`ProcessLeft`).
"""

import re
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec
from msgspec import Raw, Struct

from headway.broadcast_events import Changed, ReaderCame, RequestCancelled, SessionTold
from headway.jsonable import as_base_type, without_surrogates
from headway.jsonable import decode_json as decode_json
from headway.jsonable import encode_json as encode_json

if TYPE_CHECKING:
    MaybeRaw = Raw | None
else:  # msgspec decodes no `Raw | None`: any value but null is refused. The default is left out.
    MaybeRaw = Raw


class Accepted(Struct, frozen=True, tag="accepted", omit_defaults=True, gc=False):
    """A request became a run. First entry of every run."""

    method: str
    target: str | None = None
    """The object of the method: the tool, prompt or resource named by the request."""
    owner: str = ""
    """The session and principal that may read, answer and cancel the run."""
    follows: str = ""
    caller: str = ""
    """The name of the principal, for people; no process decides anything by this and the next."""
    client: str = ""
    """Name and version of the client, as it says them."""
    server: str = ""
    """The name of the server."""
    arguments: list[str] = []
    """The names of the arguments of a tool call, without their values."""
    scopes: list[str] = []
    """The scopes that a token must have for what the run says, where no policy names its tool."""


class Started(Struct, frozen=True, tag="started", omit_defaults=True, gc=False):
    """The handler began to execute."""


class RunDescription(Struct, frozen=True, omit_defaults=True, gc=False):
    """The description of a run: no event, but a part of one, so that every release can read it."""

    accepted: Accepted
    time: float
    """When the run was accepted, in seconds since 1970; likewise when it was started."""
    started: float | None = None


class Restarted(Struct, frozen=True, tag="restarted", omit_defaults=True, gc=False):
    """The process that executed the run died; another one begins it anew."""

    process: str
    """The tag of the one that does."""
    attempt: int  # 2 for the first restart
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
    about: RunDescription | None = None
    """The run is described again in the middle of a long stream, whose beginning may go."""


class Log(Struct, frozen=True, tag="log", omit_defaults=True, gc=False):
    """A log message of the handler."""

    level: str
    data: Raw
    logger: str | None = None
    run: str = ""  # on a session's stream: that of the run which says it, if one does


class Part(Struct, frozen=True, tag="part", gc=False):
    """A partial result, as JSON."""

    value: Raw


class Notified(Struct, frozen=True, tag="notified", omit_defaults=True, gc=False):
    """Any other notification for the client, passed through."""

    method: str
    params: MaybeRaw = None
    run: str = ""  # on a session's stream: that of the run which says it, if one does


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
    """The last change that was known then: the client is sent those after it."""
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
    is_worker: bool = False  # the process accepts no calls


class ProcessLeft(Struct, frozen=True, tag="process_left", omit_defaults=True, gc=False):
    """Terminal: a process stopped, or was found gone."""

    reason: str = ""


class SessionClosed(Struct, frozen=True, tag="session_closed", omit_defaults=True, gc=False):
    """Terminal: the session is over; its id means nothing any more."""

    reason: str = ""


class HandedOver(Struct, frozen=True, tag="handed_over", gc=False):
    """A run can go on without its request: its client has a handle. First entry of its inbox."""

    created: float  # when the run began, in seconds since 1970
    ttl: float  # for how many seconds after that the handle may be of use


class CancelRequested(Struct, frozen=True, tag="cancel_requested", omit_defaults=True, gc=False):
    """Somebody who does not execute the run wants it stopped."""

    by: str
    reason: str | None = None


class InputAnswered(Struct, frozen=True, tag="input_answered", omit_defaults=True, gc=False):
    """The client's answer to the question `key`: the result object it would have sent."""

    key: str
    result: Raw
    is_error: bool = False  # it is a JSON-RPC error object instead


class ControlMessage(Struct, frozen=True, tag="ordered", gc=False):
    """Somebody who does not execute the run in `stream` asks its process this."""

    stream: str
    what: CancelRequested | InputAnswered


class RetryRequested(Struct, frozen=True, tag="retry_requested", gc=False):
    """An operator wants the request of the run in `stream` executed once more, as a new run."""

    stream: str
    call: str  # the part of the new run's id that nobody can guess


class InboxClosed(Struct, frozen=True, tag="inbox_closed", gc=False):
    """Terminal: the run has ended; nobody reads its inbox any more."""


class Claimed(Struct, frozen=True, tag="claimed", omit_defaults=True, gc=False):
    """A run can be found by the key that this stream stands for."""

    stream: str
    """The run's stream."""
    fingerprint: str = ""
    """A digest of the request with the key; a repetition has to ask for the same."""
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
    """The params of the request."""
    principal: str = ""
    follows: str = ""
    """The stream of the run that it only repeats."""
    owns: bool = False
    """True when a worker executes the run that it repeats, for this request alone."""
    is_found: bool = False
    """True when its client can come back for it."""
    queue: str = ""
    """The queue in which it waits for a worker, if it does."""
    key: str = ""
    """The key that names it, if one does."""
    client: MaybeRaw = None
    """The `initialize` params of its client."""
    access: MaybeRaw = None
    """The claims of its access token, never the token."""
    can_ask: bool = False
    source: MaybeRaw = None
    """Where it came from, for the audit log of the process that executes it."""


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
    | RetryRequested
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
    """Return entries as a journal stores them: a JSON array of `[seq, time, event]`.

    As in `encode_json`, a lone surrogate becomes U+FFFD.
    """
    try:
        return _encoder.encode(entries)
    except UnicodeEncodeError:
        replace = msgspec.structs.replace
        return _encoder.encode([replace(each, event=as_encodable(each.event)) for each in entries])


def decode_entries(data: bytes) -> list[Entry]:
    """Return the entries that `encode_entries` wrote."""
    return _entries.decode(data)


class _Outcome(Struct):
    isError: bool = False


_outcomes = msgspec.json.Decoder(_Outcome)
_SAYS_ERROR = re.compile(rb'"isError"\s*:\s*true')


def is_failure(event: Event) -> bool:
    """Return whether a terminal event says that a run failed: a tool's own error included."""
    if type(event) is not Completed:
        return type(event) in (Failed, Interrupted)
    data: Any = event.result  # bytes
    # Most results say that they are none, and some are large. A text in one may say it as well.
    if _SAYS_ERROR.search(data) is None:
        return False
    try:
        return _outcomes.decode(data).isError
    except msgspec.DecodeError:  # of a server's own making
        return False


def size_of(event: Event) -> int:
    """Return about how many bytes the event takes, for limits; exact where it matters."""
    if type(event) is Completed:
        return 64 + len(cast("bytes", event.result))
    if type(event) is Progress and event.about is None:
        return 96 if event.message is None else 96 + len(event.message)
    total = 64
    fields: tuple[Any, ...] = () if type(event) is Started else msgspec.structs.astuple(event)
    for value in fields:
        if not value:  # most fields are empty
            continue
        if isinstance(value, str | Raw):
            total += len(value)
        elif isinstance(value, list | dict | Struct):
            total += _size_within(cast("object", value))
    return total


def _size_within(value: object) -> int:
    """Return the bytes of what is in a field: names of arguments, items that are done, an event."""
    if isinstance(value, str):
        return len(value) + 3  # quotes, and what stands between
    if isinstance(value, list):
        return sum(map(_size_within, cast("list[object]", value)))
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return sum(_size_within(name) + _size_within(each) for name, each in pairs)
    return size_of(cast("Event", value)) if isinstance(value, Struct) else 8


def as_encodable(event: Event) -> Event:
    """Return the same event with U+FFFD for each lone surrogate in its texts, however deep."""
    fields = {name: _as_encodable(getattr(event, name)) for name in event.__struct_fields__}
    return msgspec.structs.replace(event, **fields)


def _as_encodable(value: object) -> object:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_as_encodable(each) for each in cast("list[object]", value)]
    return as_encodable(cast("Event", value)) if isinstance(value, Struct) else value

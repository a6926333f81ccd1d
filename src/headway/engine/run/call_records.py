"""The audit log's records of calls: one at the end of each, one for each cancel and each refusal.

The facts about a call are those of the log's line (`end_line.py`), which both are told of at one
place, `Engine._end_run`. A call that a worker executes is recorded there, by the worker; the server
records it if no worker began it. A run that its process left without an end is recorded by the
process that ends it.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from headway.audit.audit_log import AuditLog
from headway.audit.refusal_rate import RefusalRate
from headway.audit.told_arguments import ToldArguments, tell_arguments, without_tokens
from headway.auth import RequestSource, request_source
from headway.engine.run.end_line import facts_of, printable
from headway.errors import JournalError, ProtocolError
from headway.events import Accepted, Event
from headway.journal import Journal
from headway.log_lines import report_lost_line
from headway.protocol.methods import kind_of
from headway.protocol.run_for_people import cut_name, error_of
from headway.stream_names import reference_of

if TYPE_CHECKING:
    from headway.engine.request import Request
    from headway.engine.run.run import Run

AUDIT_CODE: Final = -32000
"""JSON-RPC code of a call that is refused because the audit log cannot be written: as if busy."""

RETRY_AFTER: Final = 10

LONGEST_REASON: Final = 300

LEFT: Final = "left to "
"""The beginning of how a mirror ended that did not wait for the run that it mirrors."""

_Record = dict[str, object]


class _Call(NamedTuple):
    """The facts about a call that its run does not keep."""

    source: RequestSource
    arguments: ToldArguments


class CallRecords:
    """Writes the records of one server into an audit log. On the event loop only."""

    def __init__(self, log: AuditLog, server: str) -> None:
        self.log = log
        self._server = server
        self._calls: dict[str, _Call] = {}
        put_refusal = partial(self._put, "refusal", is_refusal=True)
        self._refusals = RefusalRate(log.config.refusal_rate, put_refusal)

    def check_writable(self) -> None:
        """Check that a call may begin.

        Raises:
            ProtocolError: It could not be recorded, and has to be (503).
        """
        if self.log.is_refusing:
            raise ProtocolError(
                AUDIT_CODE,
                "The server takes no calls while its audit log cannot be written "
                f"({self.log.failure or 'too much waits for it'}); its operator has to make room",
                status=503,
                retry_after=RETRY_AFTER,
            )

    def begin(self, run: "Run", request: "Request") -> None:
        """Keep what the record of a run's end will need of its request."""
        if not run.request.kind.is_counted:
            return
        config = self.log.config
        told = tell_arguments(_arguments_of(request), config.arguments, config.redact)
        self._calls[run.id] = _Call(request.source or RequestSource(), told)
        run.on_end(lambda: self._forget(run.id))

    def _forget(self, run_id: str) -> None:
        self._calls.pop(run_id, None)

    def end(
        self, run: "Run", event: Event, result: dict[str, Any] | None, *, is_waiting: bool
    ) -> None:
        """Record the end of a call; `is_waiting`: no worker has begun what the run mirrors."""
        call = self._calls.get(run.id)
        if call is None or (run.request.owns and not is_waiting):
            return
        try:
            facts = facts_of(run, event, result)
            if run.request.owns and facts["end"].startswith(LEFT):
                return
            self._put("call", self._record_of(run, call, facts))
        except Exception as error:  # noqa: BLE001 - the end is not to be lost for its record
            report_lost_line(error)

    def _record_of(self, run: "Run", call: _Call, facts: Mapping[str, Any]) -> _Record:
        error = facts["error"]
        return {
            **_who(run, call.source),
            "key": call.source.key or None,
            "arguments": call.arguments.shown,
            "repeats": facts["repeats"] or None,
            "attempt": run.attempt,
            "end": facts["end"],
            "error": None if error is None else without_tokens(error, call.arguments.secrets),
            "seconds": facts["seconds"],
            "trace": printable(call.source.trace) or None,
        }

    def cancel(self, run: "Run", by: str, reason: str | None) -> None:
        """Record that a call is asked to stop, and by whom.

        Where a worker executes it, that records its own.
        """
        call = self._calls.get(run.id)
        if call is None or run.request.owns:
            return
        why = None if reason is None else _line(reason, call.arguments.secrets)
        self._put("cancel", {**_who(run, call.source), "by": by, "reason": why})

    def refuse(self, status: int, limit: str | None, why: str, address: str | None = None) -> None:
        """Record a refused request, or count it where there are many of its kind.

        `address` is the client's, where the request itself was not read.
        """
        source = request_source()
        record: _Record = {
            "time": _now(),
            "caller": printable(cut_name(source.caller)) or None,
            "issuer": printable(source.issuer) or None,
            "address": address or source.address or None,
            "status": status,
            "limit": limit,
            "reason": _line(why),
            "trace": printable(source.trace) or None,
        }
        self._refusals.take((status, limit, bool(source.caller)), record)

    async def lose(self, journal: Journal, stream: str, end: Event) -> None:
        """Record the end of a run whose process went away, as far as the journal tells of it."""
        try:
            first = (await journal.read(stream, limit=1))[0].event
        except (JournalError, IndexError):
            return
        if not isinstance(first, Accepted) or first.follows or not kind_of(first.method).is_counted:
            return
        error = error_of(end)
        record: _Record = {
            "caller": printable(first.caller) or None,
            "client": printable(first.client) or None,
            "tool": printable(without_tokens(first.target or "")),
            "run": reference_of(stream),
            "arguments": first.arguments,
            "end": "interrupted",
            "error": None if error is None else _line(error),
        }
        self._put("call", record)

    def _put(self, event: str, record: _Record, *, is_refusal: bool = False) -> None:
        told = {name: value for name, value in record.items() if value is not None}
        whole = {"time": _now(), "event": event, "server": self._server, **told}
        self.log.put(whole, is_refusal=is_refusal)

    def open(self) -> None:
        """Open the log, with a record of the start.

        Raises:
            SetupError: It cannot be opened.
        """
        self.log.open({"time": _now(), "event": "start", "server": self._server})

    def end_log(self) -> None:
        """Record the stop: the last record, after what was left out of refusals."""
        self._refusals.tell_all()
        self._put("stop", {})


def _who(run: "Run", source: RequestSource) -> _Record:
    request = run.request
    return {
        "caller": printable(cut_name(request.caller)) or None,
        "issuer": printable(source.issuer) or None,
        "principal": request.principal,
        "client": printable(cut_name(request.client_name)) or None,
        "address": source.address or None,
        "tool": printable(without_tokens(cut_name(request.name))),
        "run": run.reference,
    }


def _arguments_of(request: "Request") -> Mapping[str, object]:
    params: object = request.context.body.get("params")
    if not isinstance(params, Mapping):
        return {}
    arguments = cast("Mapping[str, object]", params).get("arguments")
    return cast("Mapping[str, object]", arguments) if isinstance(arguments, Mapping) else {}


def _line(text: str, secrets: tuple[str, ...] = ()) -> str:
    first = text.partition("\n")[0]
    return printable(without_tokens(first, secrets)[:LONGEST_REASON])


def _now() -> str:
    now = datetime.fromtimestamp(time.time(), UTC)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

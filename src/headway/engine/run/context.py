"""The `DispatchContext` of a run: what the SDK's kernel holds while it handles one request.

Everything a handler says to its client passes here and becomes an event of the run: nothing
is written to a wire, so nothing waits for a reader.
"""

from collections.abc import Mapping
from typing import Any

import anyio
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import ProgressToken, RequestId

from headway.encoding import as_loggable
from headway.engine.run.run import Run
from headway.events import Event, Log, Notified, encode_json
from headway.jsonable import exact_text


class RunContext:
    """The request-scoped channel of one run; satisfies `mcp.shared.dispatcher.DispatchContext`."""

    __slots__ = ("_run", "body", "message_metadata", "request_id", "token", "transport")

    def __init__(
        self,
        request_id: RequestId | None,
        transport: TransportContext,
        metadata: ServerMessageMetadata,
        token: ProgressToken | None,
        body: Mapping[str, Any],
    ) -> None:
        self.request_id = request_id
        self.transport = transport
        self.message_metadata = metadata
        self.token = token
        self.body = body
        self._run: Run | None = None

    def bind(self, run: Run) -> None:
        """Make `run` the one that this context speaks for."""
        self._run = run

    @property
    def run(self) -> Run | None:
        """The run it speaks for, once there is one."""
        return self._run

    @property
    def can_send_request(self) -> bool:
        """Whether the client can be asked something while the request is handled."""
        return self.transport.can_send_request and self._run is not None and not self._run.ended

    @property
    def cancel_requested(self) -> anyio.Event:
        """Set when the run is asked to stop; handlers that clean up themselves watch it."""
        return anyio.Event() if self._run is None else self._run.cancellation.stop_requested

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report progress; paced, and lets the loop breathe now and then."""
        run = self._run
        if run is None:
            return
        run.output.report(progress, total, message)
        await run.output.yield_if_due()

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification on this request's stream."""
        if self._run is not None:
            notify_run(self._run, self.token, method, params)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the client on this request's stream and wait for the answer.

        Raises:
            MCPError: The client answered with an error.
            NoBackChannelError: The era or the transport has no way to ask.
        """
        if not self.can_send_request or self._run is None:
            raise NoBackChannelError(method)
        return await self._run.ask_client(method, params, (opts or {}).get("timeout"))


def notify_run(
    run: Run, token: ProgressToken | None, method: str, params: Mapping[str, Any] | None
) -> None:
    """Make a notification of a handler an event of its run.

    Progress goes through pacing like any other, and only when it names the request's own
    token: a token that the client did not give is not put on its wire.
    """
    params = params or {}
    if method == "notifications/progress":
        if token is not None and params.get("progressToken") == token:
            run.output.report(params.get("progress", 0), params.get("total"), params.get("message"))
    else:
        run.output.emit_event(as_event(method, params))


def as_event(method: str, params: Mapping[str, Any] | None) -> Event:
    """A notification as an event: a log message is one that its reader's level may hold back."""
    params = params or {}
    if method == "notifications/message":
        data, logger = encode_json(as_loggable(params.get("data"))), params.get("logger")
        name = None if logger is None else exact_text(logger)
        return Log(str(params.get("level", "info")), data, name)
    return Notified(method, encode_json(dict(params)) if params else None)

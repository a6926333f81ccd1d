"""The `DispatchContext` of a run: the SDK's channel to the client while it handles one request.

Everything that a handler sends to its client becomes an event of the run here. Nothing is written
to a wire, so a handler never waits for a slow reader.
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
    """The channel of one request; satisfies `mcp.shared.dispatcher.DispatchContext`.

    It is made before its run: what is sent until `bind` is called is dropped.
    """

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
        """Make everything that is sent from now on an event of `run`."""
        self._run = run

    @property
    def run(self) -> Run | None:
        """The run of the request, once there is one."""
        return self._run

    @property
    def can_send_request(self) -> bool:
        """True while the client can be asked something."""
        return self.transport.can_send_request and self._run is not None and not self._run.ended

    @property
    def cancel_requested(self) -> anyio.Event:
        """Set when the run is asked to stop, for handlers that watch it to clean up."""
        return anyio.Event() if self._run is None else self._run.cancellation.stop_requested

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report progress; paced, and now and then the loop may serve others."""
        run = self._run
        if run is None:
            return
        output = run.output
        output.report(progress, total, message)
        await output.yield_if_due()

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
    """Append a notification of a handler to its run.

    Progress is paced like any other. It is dropped unless it has the request's own token: a token
    that the client did not give must not be sent to it.
    """
    params = params or {}
    if method == "notifications/progress":
        if token is not None and params.get("progressToken") == token:
            run.output.report(params.get("progress", 0), params.get("total"), params.get("message"))
    else:
        run.output.emit_event(as_event(method, params))


def as_event(method: str, params: Mapping[str, Any] | None) -> Event:
    """Return the event for a notification.

    A log message has an event of its own, because each reader has its own lowest level.
    """
    params = params or {}
    if method == "notifications/message":
        data, logger = encode_json(as_loggable(params.get("data"))), params.get("logger")
        name = None if logger is None else exact_text(logger)
        return Log(str(params.get("level", "info")), data, name)
    return Notified(method, encode_json(dict(params)) if params else None)

"""`subscriptions/listen` with `taskIds`: a listener gets the changes of its tasks on its own
stream.

The SDK's handler acknowledges and delivers what the protocol itself has. Tasks are an extension, so
their part is added here, on the way out.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

from mcp.shared.dispatcher import CallOptions
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.transport_context import TransportContext

from headway.engine import Run, RunContext
from headway.engine.remote.run_inbox import read_inbox
from headway.errors import StreamNotFound
from headway.events import Notified, encode_json
from headway.protocol.jsonrpc_message import Message
from headway.protocol.methods import LISTEN
from headway.protocol.tasks import task_of
from headway.stream_names import inbox_stream, sibling_run
from headway.transport.subscriptions.run_updates import report_news

_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"


def subscribed_tasks(message: Message) -> list[str]:
    """Return the tasks that a `subscriptions/listen` names, however malformed it is."""
    if message.method != LISTEN:
        return []
    wanted = (message.params or {}).get("notifications")
    ids = cast("dict[str, object]", wanted if isinstance(wanted, dict) else {}).get("taskIds")
    found = cast("list[object]", ids) if isinstance(ids, list) else []
    names = [name for name in found if isinstance(name, str) and "/" not in name]
    return list(dict.fromkeys(names))


class ListenContext(RunContext):
    """The context of a listener that subscribed to tasks."""

    __slots__ = ("_identity", "_tasks", "_wanted")

    def __init__(
        self,
        message: Message,
        transport: TransportContext,
        metadata: ServerMessageMetadata,
        wanted: list[str],
    ) -> None:
        super().__init__(message.id, transport, metadata, message.token, message.body)
        self._identity = message.id
        self._wanted = wanted
        self._tasks: list[asyncio.Task[None]] = []

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification; the acknowledgement names the tasks that are the caller's."""
        if method != _ACKNOWLEDGED or self.run is None:
            await super().notify(method, params, opts)
            return
        journal = self.run.journal
        streams = {name: sibling_run(self.run.stream, name) for name in self._wanted}
        inboxes = await journal.head_of_each([inbox_stream(stream) for stream in streams.values()])
        known = {
            name: streams[name] for name in self._wanted if inbox_stream(streams[name]) in inboxes
        }
        access, held = self.run.services.access, self.run.request.scopes
        seen = await access.visible_of(known.values(), held)
        honored = [name for name, stream in known.items() if stream in seen]
        said = dict(params or {})
        said["notifications"] = {**said.get("notifications", {}), "taskIds": honored}
        await super().notify(method, said, opts)
        for name in honored:
            self._tasks.append(asyncio.create_task(self._watch_task(self.run, name, streams[name])))
        self.run.on_end(self._stop_watching)

    def _stop_watching(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _watch_task(self, listener: Run, name: str, stream: str) -> None:
        journal, clock = listener.journal, listener.services.clock

        async def send_task() -> None:
            """Send the task as `tasks/get` would answer at this moment."""
            entries, inbox = await journal.read_all_kept(stream), await read_inbox(journal, stream)
            kept = journal.retention.ttl
            task = task_of(name, entries, inbox, now=clock.time(), kept=kept)
            task["_meta"] = {SUBSCRIPTION_ID_META_KEY: self._identity}
            listener.output.emit_event(Notified("notifications/tasks", encode_json(task)))

        try:
            head = await journal.head(stream)
            await send_task()
            if head is not None:
                await report_news(journal, clock, stream, head.last, send_task)
        except StreamNotFound:
            return  # its time was over

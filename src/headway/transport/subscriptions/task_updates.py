"""`subscriptions/listen` with `taskIds`: a listener is told of its tasks on its own stream.

The SDK's handler acknowledges and delivers what the protocol itself knows. Tasks are an extension:
what belongs to them is added here, on the way out.
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
from headway.protocol.inbound import Message
from headway.protocol.tasks import task_of
from headway.streams import inbox_stream, sibling_run
from headway.transport.subscriptions.run_updates import follow_news

_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"


def subscribed_tasks(message: Message) -> list[str]:
    """The tasks that a `subscriptions/listen` wants to hear of; whatever the client sent."""
    if message.method != "subscriptions/listen":
        return []
    wanted = (message.params or {}).get("notifications")
    ids = cast("dict[str, object]", wanted if isinstance(wanted, dict) else {}).get("taskIds")
    found = cast("list[object]", ids) if isinstance(ids, list) else []
    names = [name for name in found if isinstance(name, str) and "/" not in name]
    return list(dict.fromkeys(names))


class ListenContext(RunContext):
    """The context of a listener who wants to hear of tasks."""

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
        """As for any request; the acknowledgement names the tasks that are the caller's."""
        if method != _ACKNOWLEDGED or self.run is None:
            await super().notify(method, params, opts)
            return
        journal = self.run.journal
        streams = {name: sibling_run(self.run.stream, name) for name in self._wanted}
        inboxes = await journal.head_of_each([inbox_stream(stream) for stream in streams.values()])
        honored = [name for name in self._wanted if inbox_stream(streams[name]) in inboxes]
        said = dict(params or {})
        said["notifications"] = {**said.get("notifications", {}), "taskIds": honored}
        await super().notify(method, said, opts)
        for name in honored:
            self._tasks.append(asyncio.create_task(self._follow(self.run, name, streams[name])))
        self.run.on_end(self._stop)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _follow(self, listener: Run, name: str, stream: str) -> None:
        journal, clock = listener.journal, listener.clock

        async def tell() -> None:
            """Send the task as `tasks/get` would answer at this moment."""
            entries, inbox = await journal.read_all_kept(stream), await read_inbox(journal, stream)
            kept = journal.retention.ttl
            task = task_of(name, entries, inbox, now=clock.time(), kept=kept)
            task["_meta"] = {SUBSCRIPTION_ID_META_KEY: self._identity}
            listener.output.emit_event(Notified("notifications/tasks", encode_json(task)))

        try:
            head = await journal.head(stream)
            await tell()
            if head is not None:
                await follow_news(journal, clock, stream, head.last, tell)
        except StreamNotFound:
            return  # its time was over

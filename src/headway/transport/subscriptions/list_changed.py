"""Changes that a server publishes, brought to all clients that subscribed to them.

The SDK's bus reaches the listeners of this process (`subscriptions/listen`). What is published on
it here goes to 2025 sessions, and to the buses of all other processes on the same journal.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

from mcp.server.subscriptions import SubscriptionBus
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from headway.broadcast_events import Changed
from headway.events import Notified, encode_json
from headway.transport.sessions.registry import Sessions

UPDATED = "notifications/resources/updated"

_METHODS: dict[type, str] = {
    ToolsListChanged: "notifications/tools/list_changed",
    PromptsListChanged: "notifications/prompts/list_changed",
    ResourcesListChanged: "notifications/resources/list_changed",
}
_KINDS: dict[str, type] = {method: kind for kind, method in _METHODS.items()}

_is_told: ContextVar[bool] = ContextVar("headway_is_told", default=False)
"""Whether the change that is being published came from another process, or is for this one only."""


class ServerChanges:
    """Passes changes between the bus of a server, if any, and the processes that serve it."""

    def __init__(self, bus: SubscriptionBus | None, sessions: Sessions) -> None:
        self._bus = bus
        self._sessions = sessions
        self._unsubscribe: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Pass on from now on."""
        if self._bus is not None:
            self._loop = asyncio.get_running_loop()
            self._sessions.broadcasts.on_change = self._on_remote_change
            self._unsubscribe = self._bus.subscribe(self._on_published)

    def close(self) -> None:
        """Pass nothing on any more."""
        if self._unsubscribe is not None:
            self._unsubscribe()

    async def notify_of_run(self, uri: str) -> None:
        """Notify the clients here that watch a run; each process notifies its own."""
        notice = Notified(UPDATED, encode_json({"uri": uri}))
        self._sessions.broadcasts.notify_subscribers(
            uri, lambda session: session.record_event(notice)
        )
        await self._publish_here(ResourceUpdated(uri))

    def _on_published(self, event: ServerEvent) -> None:
        if _is_told.get():
            return
        loop = self._loop
        if loop is not None and loop is not asyncio.get_running_loop():
            # Published where the same server lives in another loop: this life has its own.
            if loop.is_closed():
                self.close()
            else:
                loop.call_soon_threadsafe(self._on_published, event)
            return
        if isinstance(event, ResourceUpdated):
            self._sessions.broadcasts.publish_change(UPDATED, event.uri)
        else:
            self._sessions.broadcasts.publish_change(_METHODS[type(event)])

    async def _on_remote_change(self, change: Changed) -> None:
        """Publish a change of another process on the bus of this one."""
        if change.method == UPDATED:
            await self._publish_here(ResourceUpdated(change.uri))
        elif change.method in _KINDS:
            await self._publish_here(_KINDS[change.method]())

    async def _publish_here(self, event: ServerEvent) -> None:
        if self._bus is None:
            return
        token = _is_told.set(True)
        try:
            await self._bus.publish(event)
        finally:
            _is_told.reset(token)

"""Replicas and workers in one loop, over a real Redis."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from tests.kit.peers import Wire, served
from tests.workers.target import mcp

from headway import Settings
from headway.audit import AuditConfig
from headway.clock import Clock
from headway.worker_app import Worker

LEASE = 10.0


class Floor:
    """What shares one journal."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self._stack = stack

    async def replica(
        self, server: object = mcp, *, audit: AuditConfig | None = None, **settings: Any
    ) -> Wire:
        chosen = replace(Settings(lease=LEASE), **settings)
        app = served(server, journal=self.url, clock=Clock(), settings=chosen, audit=audit)
        return await self._stack.enter_async_context(app)

    async def worker(
        self,
        *queues: str,
        server: object = mcp,
        concurrency: int = 10,
        audit: AuditConfig | None = None,
        **settings: Any,
    ) -> Worker:
        worker = Worker(
            server,
            journal=self.url,
            settings=replace(Settings(lease=LEASE), **settings),
            queues=queues or None,
            concurrency=concurrency,
            audit=audit,
        )
        await self._stack.enter_async_context(worker.running())
        return worker


@asynccontextmanager
async def floor(url: str) -> AsyncGenerator[Floor]:
    async with AsyncExitStack() as stack:
        yield Floor(url, stack)

"""The ready-made tools as a client sees them: a real socket, the official client, both eras."""

import asyncio
import hashlib
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import mcp_types as types
import pytest
import uvicorn
from mcp.client import Client
from tests.kit.waits import PATIENCE

from headway import Settings, asgi
from headway.tools import build
from headway.tools.reading import Reader

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("mode", ["legacy", "2026-07-28"]),
    # Setting a log level is how 2025 clients ask for logs; the SDK warns of its own helper.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


class Ears:
    """Everything a client hears during its calls."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.progress: list[tuple[float, float | None, str | None]] = []

    async def on_log(self, params: types.LoggingMessageNotificationParams) -> None:
        if params.logger == "headway.part":
            self.parts.append(params.data)

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append((progress, total, message))


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The app behind a real socket; who connects before it is ready waits in the backlog."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def connected(workplace: Any, mode: Any, ears: Ears) -> AsyncIterator[Client]:
    """A client of the tools, which sends every report: no pacing."""
    app = asgi(build([workplace.root], workplace.data), settings=Settings(progress_rate=0))
    with anyio.fail_after(PATIENCE):
        async with (
            served(app) as origin,
            Client(
                f"{origin}/mcp", mode=mode, log_level="info", logging_callback=ears.on_log
            ) as client,
        ):
            if mode == "legacy":
                await client.set_logging_level("info")
            yield client


async def test_files_are_processed_with_progress_and_parts(workplace: Any, mode: str) -> None:
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        workplace.write(name, name)
    ears = Ears()
    async with connected(workplace, mode, ears) as client:
        result = await client.call_tool(
            "process_files", {"directory": "."}, progress_callback=ears.on_progress
        )
    assert not result.is_error
    assert result.structured_content is not None
    assert (result.structured_content["ok"], result.structured_content["bytes"]) == (3, 19)
    assert ears.parts == [
        {
            "file": name,
            "status": "ok",
            "bytes": len(name),
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
        }
        for name in ("a.txt", "b.txt", "sub/c.txt")
    ]
    values = [value for value, _, _ in ears.progress]
    assert values == sorted(set(values))
    assert [message for _, _, message in ears.progress][:5] == [
        "Listing .",
        "Listing … 3 files",
        "checksum a.txt",
        "checksum b.txt",
        "checksum sub/c.txt",
    ]
    assert ears.progress[-1][:2] == (3, 3)


async def test_a_directory_outside_is_a_tool_error_the_model_can_read(
    workplace: Any, mode: str
) -> None:
    async with connected(workplace, mode, Ears()) as client:
        result = await client.call_tool("process_files", {"directory": "/etc"})
    assert result.is_error
    assert isinstance(result.content[0], types.TextContent)
    assert "give an existing directory below the root directory" in result.content[0].text


async def test_a_name_no_json_can_hold_reaches_the_client(workplace: Any, mode: str) -> None:
    workplace.write("caf\udce9\u2028.txt", "coffee")
    ears = Ears()
    async with connected(workplace, mode, ears) as client:
        await client.call_tool("process_files", {"directory": "."})
    assert [part["file"] for part in ears.parts] == ["caf\\udce9\u2028.txt"]


async def test_a_long_task_reports_its_steps(workplace: Any, mode: str) -> None:
    ears = Ears()
    async with connected(workplace, mode, ears) as client:
        result = await client.call_tool(
            "long_task",
            {"steps": 3, "seconds_per_step": 0},
            progress_callback=ears.on_progress,
        )
    assert result.structured_content == {"result": "Done: 3 steps of 0 s"}
    messages = [message for _, _, message in ears.progress]
    assert [message for message in messages if message and "Step" in message] == [
        f"Work · Step {n} of 3" for n in (1, 2, 3)
    ]
    assert ears.progress[-1][0] == ears.progress[-1][1]
    assert ears.parts == [{"step": n, "of": 3} for n in (1, 2, 3)]


async def test_a_cancel_stops_the_thread_within_a_file(
    workplace: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the file to its end would take minutes."""
    ended = threading.Event()
    leave = Reader._leave_folder

    def leaving(self: Reader) -> None:
        leave(self)
        if inside.is_set():
            ended.set()

    # The thread is past telling anybody that it ends, so listen where it lets go.
    monkeypatch.setattr(Reader, "_leave_folder", leaving)
    os.truncate(workplace.write("endless"), 16 * 1024**3)
    inside = anyio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        if total is not None and progress > 0.00001:
            inside.set()

    async with (
        connected(workplace, mode, Ears()) as client,
        anyio.create_task_group() as calls,
    ):
        calls.start_soon(
            partial(
                client.call_tool,
                "process_files",
                {"directory": "."},
                progress_callback=on_progress,
            )
        )
        await inside.wait()
        calls.cancel_scope.cancel()
    assert ended.wait(PATIENCE)

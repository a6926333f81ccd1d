"""Find out how long a server may be away before each official client gives a call up.

    make install && .venv/bin/python scripts/outages.py [SECONDS ...]

For each number of seconds a server is killed in the middle of a call of every client, and started
again when it was away for so long. The tool may be begun anew (`restart`), so that a client that
comes back gets the result. What is printed is the table of `docs/clients.md`.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from shutil import copy
from typing import Any

import fastmcp
import node_packages
from mcp import Client

from headway import Settings
from headway.testing import ServerProcess

CHECKOUT = Path(__file__).resolve().parent.parent
AWAY = (2, 5, 8, 10, 11, 15)
PATIENCE = 60.0
"""Seconds that a client may take for its call, the outage included."""

SERVER = """
import asyncio
from pathlib import Path
from headway import Headway, report

mcp = Headway("away")

@mcp.tool(restart=True)
async def work(place: str, name: str) -> str:
    report(1, 2)
    Path(place, name).touch()
    while not Path(place, "go").exists():
        await asyncio.sleep(0.05)
    return "done"
"""

Call = Callable[[str, dict[str, str]], Awaitable[str]]


async def python_sdk(url: str, arguments: dict[str, str]) -> str:
    """Call the tool with the official Python client."""

    async def ignore(progress: float, total: float | None, message: str | None) -> None:
        pass

    async with Client(url, mode="legacy") as client:
        result = await client.call_tool("work", arguments, progress_callback=ignore)
    return getattr(result.content[0], "text", "")


async def fast_mcp(url: str, arguments: dict[str, str]) -> str:
    """Call the tool with FastMCP's client."""
    async with fastmcp.Client(url, mode="legacy") as client:
        result = await client.call_tool("work", arguments)
    return getattr(result.content[0], "text", "")


def typescript(package: str) -> Call:
    """Return what calls the tool with a TypeScript client, in a process of its own."""
    modules = node_packages.install(CHECKOUT / "tests" / "clients")
    program = copy(CHECKOUT / "tests" / "clients" / "client.mjs", modules.parent)
    node = modules / ".bin" / "node"

    async def call(url: str, arguments: dict[str, str]) -> str:
        step: dict[str, Any] = {"do": "call", "tool": "work", "args": arguments, "progress": True}
        step["timeout"] = int(PATIENCE * 1000)
        orders = {"package": package, "url": url, "mode": "legacy", "steps": [step]}
        process = await asyncio.create_subprocess_exec(
            node, program, json.dumps(orders), stdout=asyncio.subprocess.PIPE
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        (outcome,) = json.loads(said)
        return outcome["result"]["content"][0]["text"]

    return call


async def survived(call: Call, url: str, arguments: dict[str, str]) -> bool:
    """Return whether the call came to its result."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await call(url, arguments) == "done"
    except Exception:  # noqa: BLE001 - however a client gives up
        return False


async def attempt(clients: dict[str, Call], seconds: float, place: Path) -> dict[str, bool]:
    """Have the server be away for so long, and return which clients got their results."""
    (place / "away.py").write_text(SERVER)
    journal = f"sqlite:///{place / 'journal.db'}"
    options = ("--port", "{port}", "--journal", journal)
    command = [sys.executable, "-m", "headway", "run", "away.py:mcp", *options]
    begin = time.monotonic()
    async with ServerProcess(command, cwd=place) as server:
        takes = time.monotonic() - begin  # to start: it begins so much earlier to be back in time
        url = f"{server.origin}/mcp"
        names = [f"begun-{number}" for number in range(len(clients))]
        calls = [
            asyncio.create_task(survived(call, url, {"place": str(place), "name": name}))
            for call, name in zip(clients.values(), names, strict=True)
        ]
        while not all((place / name).exists() for name in names):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # what they say is on its way
        await server.kill()
        killed = time.monotonic()
        await asyncio.sleep(max(seconds - takes, 0))
        await server.start()
        (place / "go").touch()
        print(f"away for {time.monotonic() - killed:.1f} s", file=sys.stderr, flush=True)
        return dict(zip(clients, await asyncio.gather(*calls), strict=True))


async def main() -> None:
    """Print the table."""
    outages = [float(text) for text in sys.argv[1:]] or AWAY
    clients: dict[str, Call] = {
        "Python SDK": python_sdk,
        "FastMCP": fast_mcp,
        "TypeScript SDK 1.x": typescript("sdk"),
        "TypeScript SDK 2.x": typescript("client"),
    }
    found: dict[float, dict[str, bool]] = {}
    for seconds in outages:
        with tempfile.TemporaryDirectory() as place:
            found[seconds] = await attempt(clients, seconds, Path(place))
    print(f"\nretry: {Settings().retry:g} s\n")
    print("| client |", " | ".join(f"{seconds:g} s" for seconds in found), "|")
    print("|---|" + "---|" * len(found))
    for name in clients:
        marks = ("result" if each[name] else "given up" for each in found.values())
        print(f"| {name} |", " | ".join(marks), "|")


if __name__ == "__main__":
    asyncio.run(main())

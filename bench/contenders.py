"""What is compared: how each server is started, and what it needs."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.processes import ROOT
from bench.wire import ERAS, Era

PEERS = ("typescript-1", "typescript-2")
"""The servers in other languages that may be compared (`peers`)."""

_HEADWAY = str(Path(sys.executable).with_name("headway"))


@dataclass(frozen=True, slots=True)
class Contender:
    """A server in the comparison."""

    name: str
    about: str
    command: tuple[str, ...]
    imports: str
    """The statement whose time is reported as its import; empty where it is no Python."""
    measures: tuple[str, ...] = ("startup", "calls", "events", "paced", "memory")
    """What of it is measured."""
    eras: tuple[Era, ...] = ERAS
    """The eras that it knows."""

    def try_import(self) -> tuple[float, str | None]:
        """How long its import takes in a fresh interpreter, and why it fails if it does."""
        if not self.imports:
            return 0, None
        code = f"import time; t = time.perf_counter(); {self.imports}; "
        code += "print(time.perf_counter() - t)"
        probe = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False
        )
        if probe.returncode:
            return 0, (probe.stderr.decode(errors="replace").strip().splitlines() or ["?"])[-1]
        return float(probe.stdout), None


def _script(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"bench.servers.{name}", "{port}", *arguments)


CONTENDERS = (
    Contender("floor", "bare ASGI, a send a frame", _script("floor", "0"), "import uvicorn"),
    Contender(
        "floor-batch", "bare ASGI, 64 KiB a send", _script("floor", "65536"), "import uvicorn"
    ),
    Contender("sdk", "mcp's own transport", _script("official"), "import mcp.server.mcpserver"),
    Contender("fastmcp", "FastMCP's HTTP app", _script("fast"), "import fastmcp"),
    Contender(
        "headway",
        "memory journal, no pacing",
        _script("product", "memory:", "authored"),
        "import headway.server",
    ),
    Contender(
        "unchanged",
        "Headway serving the SDK's own MCPServer",
        _script("product", "memory:", "fixture"),
        "import headway.server",
    ),
    Contender(
        "fastmcp-object",
        "Headway serving a FastMCP object",
        _script("product", "memory:", "fast"),
        "import headway.server, fastmcp",
        measures=("calls", "events"),
    ),
    Contender(
        "headway-sqlite",
        "SQLite journal, no pacing",
        _script("product", "sqlite:///{directory}/journal.db", "authored"),
        "import headway.server",
    ),
    Contender(
        "headway-handing",
        "hand-over after 45 s for every client",
        _script("product", "memory:", "authored", "45"),
        "import headway.server",
        measures=("calls",),
    ),
    Contender(
        "headway-cli",
        "`headway run`, only its start-up",
        (
            *(_HEADWAY, "run", str(ROOT / "bench/servers/authored.py") + ":mcp"),
            *("--port", "{port}", "--journal", "memory:"),
        ),
        "import headway.server, headway.cli",
        measures=("startup",),
    ),
)

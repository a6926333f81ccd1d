"""Headway: the streaming server for long-running MCP tools.

```python
from headway import Headway, part, track

mcp = Headway("reports")
```

`headway run file.py:mcp` serves it; `asgi(mcp)` is the same as an ASGI app.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.api import (
        CommandFailed,
        CommandOutput,
        Headway,
        ProcessFailed,
        attempt,
        capture_logging,
        capture_tqdm,
        checkpoint,
        earlier_parts,
        in_process,
        last_checkpoint,
        log,
        on_cancel,
        part,
        report,
        shield,
        stage,
        stream_command,
        track,
    )
    from headway.app import HeadwayApp, well_known
    from headway.cli.run_from_python import run, run_http, run_stdio
    from headway.errors import HeadwayError, RunCancelled, SetupError
    from headway.server import asgi
    from headway.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "CommandFailed",
    "CommandOutput",
    "Headway",
    "HeadwayApp",
    "HeadwayError",
    "ProcessFailed",
    "RunCancelled",
    "Settings",
    "SetupError",
    "asgi",
    "attempt",
    "capture_logging",
    "capture_tqdm",
    "checkpoint",
    "earlier_parts",
    "in_process",
    "last_checkpoint",
    "log",
    "on_cancel",
    "part",
    "report",
    "run",
    "run_http",
    "run_stdio",
    "shield",
    "stage",
    "stream_command",
    "track",
    "well_known",
]

_HOMES = {
    "api": (
        "CommandFailed",
        "CommandOutput",
        "Headway",
        "ProcessFailed",
        "attempt",
        "capture_logging",
        "capture_tqdm",
        "checkpoint",
        "earlier_parts",
        "in_process",
        "last_checkpoint",
        "log",
        "on_cancel",
        "part",
        "report",
        "shield",
        "stage",
        "stream_command",
        "track",
    ),
    "app": ("HeadwayApp", "well_known"),
    "cli.run_from_python": ("run", "run_http", "run_stdio"),
    "errors": ("HeadwayError", "RunCancelled", "SetupError"),
    "server": ("asgi",),
    "settings": ("Settings",),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: the SDK takes half a second."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"headway.{module}"), name)
    raise AttributeError(f"module 'headway' has no attribute {name!r}")

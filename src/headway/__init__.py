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
    from mcp.server.mcpserver.exceptions import ToolError

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
    from headway.audit import AuditConfig
    from headway.cli.run_from_python import run, run_http, run_stdio
    from headway.encryption import Encryption
    from headway.errors import HeadwayError, RunCancelled, SetupError
    from headway.server import asgi
    from headway.settings import Settings
    from headway.tokens import read_auth

__version__ = "0.1.0"

__all__ = [
    "AuditConfig",
    "CommandFailed",
    "CommandOutput",
    "Encryption",
    "Headway",
    "HeadwayApp",
    "HeadwayError",
    "ProcessFailed",
    "RunCancelled",
    "Settings",
    "SetupError",
    "ToolError",
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
    "read_auth",
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

_MODULES = {
    "AuditConfig": "audit",
    "Encryption": "encryption",
    "HeadwayApp": "app",
    "HeadwayError": "errors",
    "RunCancelled": "errors",
    "Settings": "settings",
    "SetupError": "errors",
    "asgi": "server",
    "read_auth": "tokens",
    "run": "cli.run_from_python",
    "run_http": "cli.run_from_python",
    "run_stdio": "cli.run_from_python",
    "well_known": "app",
}
"""Modules of the public names that are not in `headway.api`."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: the SDK takes half a second."""
    if name not in __all__:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    return getattr(import_module(f"headway.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    """List the public names, also those that nobody has asked for yet."""
    return [*__all__, "__version__"]

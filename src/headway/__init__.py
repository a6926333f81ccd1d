"""Headway: the streaming server for long-running MCP tools.

```python
from headway import Headway, part, track

mcp = Headway("reports")
```

`headway run file.py:mcp` serves it; `asgi(mcp)` is the same as an ASGI app.
"""

from headway.api import Headway, log, part, report, track
from headway.errors import HeadwayError, RunCancelled, SetupError
from headway.server import HeadwayApp, asgi
from headway.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Headway",
    "HeadwayApp",
    "HeadwayError",
    "RunCancelled",
    "Settings",
    "SetupError",
    "asgi",
    "log",
    "part",
    "report",
    "track",
]

"""Headway, every report sent.

    python -m bench.servers.product PORT JOURNAL FIXTURE [HAND_OVER]

FIXTURE is `authored` (a `Headway`) or `fixture` (the SDK's `MCPServer`, served unchanged);
HAND_OVER is the window of every client's calls in seconds.
"""

import sys
from importlib import import_module

from bench.servers.serving import serve
from headway.server import asgi
from headway.settings import Settings

if __name__ == "__main__":
    mcp = import_module(f"bench.servers.{sys.argv[3]}").mcp
    window = float(sys.argv[4]) if len(sys.argv) > 4 else None
    settings = Settings(progress_rate=0, hand_over=window)
    serve(asgi(mcp, journal=sys.argv[2], settings=settings), int(sys.argv[1]))

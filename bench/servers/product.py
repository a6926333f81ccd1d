"""Headway, every report sent.

    python -m bench.servers.product PORT JOURNAL FIXTURE

FIXTURE is `authored` (a `Headway`) or `fixture` (the SDK's `MCPServer`, served unchanged).
"""

import sys
from importlib import import_module

from bench.servers.serving import serve
from headway.server import asgi
from headway.settings import Settings

if __name__ == "__main__":
    mcp = import_module(f"bench.servers.{sys.argv[3]}").mcp
    serve(asgi(mcp, journal=sys.argv[2], settings=Settings(progress_rate=0)), int(sys.argv[1]))

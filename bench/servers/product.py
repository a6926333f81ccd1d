"""Headway, every report sent.

    python -m bench.servers.product PORT JOURNAL FIXTURE [HAND_OVER] [NAME=VALUE …]

FIXTURE is `authored` (a `Headway`) or `fixture` (the SDK's `MCPServer`, served unchanged);
HAND_OVER is the window of every client's calls in seconds; NAME=VALUE are settings.
"""

import sys
from importlib import import_module

from bench.servers.sampler import sample_where_asked
from bench.servers.serving import serve
from headway.server import asgi
from headway.settings import Settings, with_values

if __name__ == "__main__":
    sample_where_asked()
    mcp = import_module(f"bench.servers.{sys.argv[3]}").mcp
    given = [text for text in sys.argv[4:] if "=" in text]
    window = next((float(text) for text in sys.argv[4:] if text not in given), None)
    settings = with_values(Settings(progress_rate=0, hand_over=window), given)
    serve(asgi(mcp, journal=sys.argv[2], settings=settings), int(sys.argv[1]))

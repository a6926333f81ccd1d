"""Headway around the SDK's server object, every report sent; the journal is the second argument."""

import sys

from bench.servers.fixture import mcp
from bench.servers.serving import serve
from headway.server import asgi
from headway.settings import Settings

if __name__ == "__main__":
    serve(asgi(mcp, journal=sys.argv[2], settings=Settings(progress_rate=0)), int(sys.argv[1]))

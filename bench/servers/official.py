"""The official SDK under its own transport."""

import sys

from bench.servers.fixture import mcp
from bench.servers.serving import serve

if __name__ == "__main__":
    serve(mcp.streamable_http_app(), int(sys.argv[1]))

"""The main job on real input: serve this checkout, hash it through HTTP, watch it happen.

Runs the same two commands a person would, `headway serve` and `headway call`, and ends with
how to connect a client. Exits non-zero if anything fails.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
HEADWAY = [sys.executable, "-m", "headway.cli"]

CONNECT = """
Connect a client to a server of your own. Start it:

  headway serve --root .                       # or: headway run server.py:mcp

Claude Code:

  claude mcp add --transport http headway http://127.0.0.1:8000/mcp

A desktop client, in its configuration:

  {"mcpServers": {"headway": {"url": "http://127.0.0.1:8000/mcp"}}}

curl, which shows the stream as it is:

  curl -sN http://127.0.0.1:8000/mcp \\
    -H 'Content-Type: application/json' \\
    -H 'Accept: application/json, text/event-stream' \\
    -H 'MCP-Protocol-Version: 2026-07-28' \\
    -H 'Mcp-Method: tools/call' -H 'Mcp-Name: long_task' \\
    -d '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
          "name": "long_task", "arguments": {"steps": 3},
          "_meta": {"progressToken": "p",
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}}}}'
"""


@contextlib.contextmanager
def server(data: Path) -> Generator[str]:
    """`headway serve` on a free port with the checkout as root; its URL."""
    command = [
        *HEADWAY, "serve", "--root", str(CHECKOUT), "--data", str(data / "data"),
        "--journal", f"sqlite:///{data / 'journal.db'}", "--port", "0", "--log-level", "warning",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            found = re.search(r"http://\S+", line)
            if found is None:
                sys.exit(f"the server did not start: {line}{process.stderr.read()}")
            print(line, end="", flush=True)
            yield found[0]
        finally:
            process.terminate()
            process.stderr.read()


def show(*arguments: str) -> None:
    """Run a command of Headway as a person sees it."""
    print(f"\n$ headway {' '.join(arguments)}", flush=True)
    subprocess.run([*HEADWAY, *arguments], check=True)


def main() -> int:
    """Serve, list the tools, process the checkout, show a slow task."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        try:
            show("tools", url)
            show("call", url, "process_files", "directory=.", "operation=checksum")
            show("call", url, "long_task", "steps=4", "seconds_per_step=0.5")
        except subprocess.CalledProcessError as error:
            print(f"\nthe demo failed: {error}", file=sys.stderr)
            return 1
    print(CONNECT)
    return 0


if __name__ == "__main__":
    sys.exit(main())

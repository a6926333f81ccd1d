"""The main job on real input: serve this checkout, hash and index it through HTTP, search it.

Runs the same commands a person would, `headway serve` and `headway call`, and ends with how to
connect a client. The search has three sources: what was indexed, a small database, and a web
service that takes its time. Exits non-zero if anything fails.
"""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


CONFIGURATION = """\
roots = ["{root}"]
data = "data"
journal = "sqlite:///journal.db"

[sources.glossary]              # a table of a database
kind = "database"
url = "sqlite:///glossary.db"

  [[sources.glossary.tables]]
  name = "word"
  columns = ["word", "meaning"]
  title = "word"
  link = "docs/glossary.md#{{word}}"
  snippet = "meaning"

[sources.web]                   # a search endpoint that answers with JSON
kind = "api"
url = "{web}/search?q={{query}}"
hits = "hits"
title = "title"
link = "url"
private = true
"""

SLOWNESS = 1.5
"""Seconds that the web service takes."""


class SlowWeb(BaseHTTPRequestHandler):
    """A search service that takes its time."""

    def do_GET(self) -> None:
        time.sleep(SLOWNESS)
        hits = [{"title": "Server-sent events", "url": "https://html.spec.whatwg.org/#sse"}]
        body = json.dumps({"hits": hits}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def slow_web() -> Generator[str]:
    """The web service on a free port of this machine; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowWeb) as web:
        web.daemon_threads = True
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            web.shutdown()


def make_database(file: Path) -> None:
    """The words of the glossary as a table."""
    text = (CHECKOUT / "docs" / "glossary.md").read_text()
    rows = re.findall(r"^\| \*\*([\w-]+)\*\* \| (.+) \|$", text, re.MULTILINE)
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE word (word TEXT, meaning TEXT)")
        database.executemany("INSERT INTO word VALUES (?, ?)", rows)


@contextlib.contextmanager
def server(folder: Path, web: str) -> Generator[str]:
    """`headway serve` on a free port with the checkout as root; its URL."""
    make_database(folder / "glossary.db")
    file = folder / "headway.toml"
    file.write_text(CONFIGURATION.format(root=CHECKOUT, web=web))
    command = [
        *HEADWAY, "serve", "--config", str(file), "--port", "0", "--log-level", "warning",
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


def show_search(url: str) -> None:
    """Search, and sum up: the parts that come meanwhile are long."""
    arguments = ["call", url, "search", "query=cursor", "limit=5"]
    print(f"\n$ headway {' '.join(arguments)}", flush=True)
    with subprocess.Popen(
        [*HEADWAY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        begin = time.monotonic()
        for line in process.stderr:
            print(f"{time.monotonic() - begin:4.1f} s  {line[:110].rstrip()}", flush=True)
        result = json.loads(process.stdout.read() or "{}")
    if process.returncode or not result.get("complete") or not result["hits"]:
        raise subprocess.CalledProcessError(process.returncode or 1, arguments)
    for hit in result["hits"]:
        print(f"  {hit['score']:.4f}  {hit['title'][:40]:40}  {', '.join(hit['sources'])}")


def main() -> int:
    """Serve, list the tools, process the checkout, search it, show a slow task."""
    with (
        tempfile.TemporaryDirectory() as folder,
        slow_web() as web,
        server(Path(folder), web) as url,
    ):
        try:
            show("tools", url)
            show("call", url, "process_files", "directory=.", "operation=checksum")
            show("call", url, "process_files", "directory=docs", "operation=index")
            show_search(url)
            show("call", url, "long_task", "steps=4", "seconds_per_step=0.5")
        except subprocess.CalledProcessError as error:
            print(f"\nthe demo failed: {error}", file=sys.stderr)
            return 1
    print(CONNECT)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The main job on real input: serve this checkout, hash and index it through HTTP, search it.

Runs the same commands a person would, `headway serve` and `headway call`, and ends with how to go
on. The search has three sources: what was indexed, a small database, and a web
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
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
HEADWAY = [sys.executable, "-m", "headway"]

WIDTH = 90
"""Characters of a line that are shown."""

NEXT = """
All of it went through HTTP, as any client gets it. To go on from here:

  {headway} serve --root .                    # this server, at http://127.0.0.1:8000/mcp
  {headway} call http://127.0.0.1:8000/mcp long_task steps=5
  {headway} run examples/long_task.py         # a server of your own; docs/tutorial.md writes one
  claude mcp add --transport http headway http://127.0.0.1:8000/mcp     # docs/connect.md: others"""


CONFIGURATION = """\
roots = ["{root}"]
data = "data"

[server]
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
            print(f"$ headway serve --root .\n{line}", end="", flush=True)
            yield found[0]
        finally:
            process.terminate()
            process.stderr.read()


def call(url: str, tool: str, *arguments: str) -> Any:
    """Call a tool as a person does, show what its progress says, and return the result."""
    command = ["call", url, tool, *arguments, "--parts", "none"]
    print(f"\n$ headway {' '.join(command).replace(url, 'URL')}", flush=True)
    done = subprocess.Popen(
        [*HEADWAY, *command, "--output", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with done as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [line.rstrip()[:WIDTH] for line in process.stderr]
        result = json.loads(process.stdout.read() or "{}")
    # The first report, one on the way, and the last one.
    shown = dict.fromkeys([*lines[:1], *lines[len(lines) // 2 :][:1], *lines[-1:]])
    print("\n".join(f"  {line}" for line in shown))
    if process.returncode or result.get("isError") is not False:
        raise subprocess.CalledProcessError(process.returncode or 1, command, "\n".join(lines))
    return result["structuredContent"]


def show_files(url: str) -> None:
    """Hash this checkout, and index its documentation."""
    hashed = call(url, "process_files", "directory=.", "operation=checksum")
    print(f"  {hashed['ok']} files, {hashed['bytes'] / 1e6:.1f} MB")
    indexed = call(url, "process_files", "directory=docs", "operation=index")
    print(f"  {indexed['ok']} files in the full-text index")


def show_search(url: str) -> None:
    """Ask three sources at once, of which one takes its time."""
    found = call(url, "search", "query=cursor", "limit=4")
    if not found["complete"] or not found["hits"]:
        raise subprocess.CalledProcessError(1, "search", str(found))
    for hit in found["hits"]:
        print(f"  {hit['title'][:40]:40}  {', '.join(hit['sources'])}")


def main() -> int:
    """Serve, process the checkout, search it, show a slow task, say how to go on."""
    with (
        tempfile.TemporaryDirectory() as folder,
        slow_web() as web,
        server(Path(folder), web) as url,
    ):
        try:
            show_files(url)
            show_search(url)
            call(url, "long_task", "steps=4", "seconds_per_step=0.5")
        except subprocess.CalledProcessError as error:
            print(f"\nthe demo failed: {error}\n{error.output or ''}", file=sys.stderr)
            return 1
    program = Path(sys.executable).with_name("headway")
    inside = program.is_relative_to(Path.cwd())
    print(NEXT.format(headway=program.relative_to(Path.cwd()) if inside else program))
    return 0


if __name__ == "__main__":
    sys.exit(main())

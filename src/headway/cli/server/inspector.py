"""The MCP Inspector beside a server: a page in a browser that is connected to it.

It is a program of Node's and runs in a process group of its own. A shell at the head of the group
waits for the end of a pipe, which this process holds: whatever ends the server ends the Inspector.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import webbrowser
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlencode

from headway.cli.display.printable import one_line
from headway.cli.exit_codes import report_line
from headway.client_config import INSPECTOR

STOP_TIMEOUT: Final = 3
"""Seconds that the Inspector gets to end."""

HEAD: Final = (
    '"$@" </dev/null & exec >/dev/null 2>&1; read -r _; '
    f"trap '' TERM; kill -TERM -$$; sleep {STOP_TIMEOUT}; kill -KILL -$$"
)
"""The shell that starts the program and ends its group when the pipe does."""

LAST_LINES: Final = 10
"""Lines of an Inspector that failed that are shown."""

_ADDRESS: Final = re.compile(r"(https?://[^\s?]+)/?\?MCP_INSPECTOR_API_TOKEN=(\w+)")


@contextmanager
def inspector() -> Generator[Callable[[str], None]]:
    """Yield a function that starts the Inspector for a URL; leaving ends what it started.

    Where there is no Node, it says so in one line instead.
    """
    if shutil.which("npx") is None:
        report_line("npx is not on the PATH, so there is no Inspector; it comes with Node.js")
        yield lambda _url: None
        return
    started: list[_Inspector] = []
    with tempfile.TemporaryDirectory(prefix="headway-inspector-") as directory:
        try:
            yield lambda url: started.append(_Inspector(url, Path(directory)))
        finally:
            for each in started:
                each.stop()


class _Inspector:
    """One process of the Inspector, and a thread that reads what it says."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._is_stopping = False
        catalog = directory / "mcp.json"  # its list of servers: the user's own stays as it is
        catalog.write_text(json.dumps({"mcpServers": {}}))
        own = {"MCP_AUTO_OPEN_ENABLED": "false", "MCP_CATALOG_PATH": str(catalog)}
        report_line("starting the Inspector, which npx fetches the first time")
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", HEAD, "sh", "npx", "-y", INSPECTOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **own},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """End it and all that it started."""
        self._is_stopping = True
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        self._reader.join(STOP_TIMEOUT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its head is there until it is waited for
        self._process.wait()

    def _read_output(self) -> None:
        lines, is_open = deque[str](maxlen=LAST_LINES), False
        for raw in _pipe(self._process.stdout):
            line = raw.decode("utf-8", "replace").rstrip()
            found = _ADDRESS.search(line)
            if found is None:
                lines.append(line)
            elif not is_open:
                is_open = True
                self._open(found[1], found[2])
        if not self._is_stopping:
            said = "" if is_open else "".join(f"\n  {one_line(each)}" for each in lines if each)
            report_line(f"the Inspector has ended, and the server goes on{said}")

    def _open(self, address: str, token: str) -> None:
        query = {"serverUrl": self._url, "transport": "http", "autoConnect": token}
        link = f"{address}/?{urlencode(query)}"
        report_line(f"the Inspector, connected to it: {link}")
        has_display = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
        if has_display:  # elsewhere a browser would be one for terminals, and take this one
            webbrowser.open(link)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe

"""A process that has imported everything, and becomes any Python program that it is asked for.

`python -m tests.kit.zygote FD` reads requests from a socket that `forking` holds. A
request is a JSON object (`argv`, `safe`, `cwd`, `env`, `session`, `counted`) with the three
standard descriptors; the answer is the id of the new process. The zygote forks twice, so that the
program becomes a child of whoever asked (a subreaper) and not of the zygote. The program ends as
any does: with its own `atexit` handlers, and with its own exit code.
"""

import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.kit.contexts import COUNTED_ALONE, begin_to_count, counted_alone

IMPORTED = (
    "anyio._backends._asyncio", "encodings.idna", "fastmcp", "headway", "headway.cli.app",
    "headway.cli.client.arguments", "headway.cli.client.browser_login", "headway.cli.client.peer",
    "headway.cli.client.tool_call", "headway.cli.config_file", "headway.cli.display.progress_bar",
    "headway.cli.display.ctrl_c_question", "headway.cli.display.terminal_questions",
    "headway.cli.exit_codes",
    "headway.cli.journal_access.whole_run", "headway.cli.server.http_server",
    "headway.cli.server.prefork", "headway.cli.server.start", "headway.cli.server.stdio_server",
    "headway.cli.server.worker_server", "headway.cli.target", "headway.journal.redis.store",
    "headway.journal.sqlite.store", "headway.queues.docket", "headway.testing", "headway.tokens",
    "headway.tools", "headway.worker_app", "httpcore2", "jsonschema", "mcp.client.client",
    "mcp.server.mcpserver", "truststore", "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl", "uvloop",
)  # fmt: skip

LONGEST = 2**20
"""Bytes of a request: mostly the environment."""


class Job:
    """A program to become."""

    def __init__(self, request: dict[str, Any], descriptors: list[int]) -> None:
        self.argv: list[str] = request["argv"]
        self.cwd: str | None = request["cwd"]
        self.is_safe: bool = request["safe"]
        """Whether nothing is imported from the place of the program (`-P`)."""
        self.env: dict[str, str] = request["env"]
        self.has_session: bool = request["session"]
        self.counted: str | None = request["counted"]
        """How coverage.py is to count it, if so."""
        self.descriptors = descriptors

    def become(self, base: list[str]) -> None:
        """Be that program up to the point where its own code begins."""
        if self.has_session:
            os.setsid()
        os.environ.clear()
        os.environ.update(self.env)
        _take(self.descriptors)
        if self.cwd is not None:
            os.chdir(self.cwd)
        sys.orig_argv = [sys.executable, *self.argv]
        is_module = self.argv[0] == "-m"
        own = Path.cwd() if is_module else Path(self.argv[0]).absolute().parent
        added = self.env.get("PYTHONPATH", "")
        first = [] if self.is_safe else [str(own)]
        sys.path[:] = [*first, *filter(None, added.split(os.pathsep)), *base]
        importlib.invalidate_caches()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.counted is not None:
            begin_to_count(self.counted)

    def run(self) -> None:
        """Run the program's code, as `__main__`."""
        warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package")
        if self.argv[0] == "-m":
            sys.argv = self.argv[1:]
            runpy.run_module(self.argv[1], run_name="__main__", alter_sys=True)
        elif self.argv[0] == "-c":
            sys.argv = ["-c", *self.argv[2:]]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(self.argv[1], "<string>", "exec"), vars(main))
        else:
            sys.argv = list(self.argv)
            runpy.run_path(self.argv[0], run_name="__main__")


def _take(descriptors: list[int]) -> None:
    """Make the descriptors this process's standard ones, and close all others."""
    above = max(*descriptors, 2) + 1
    moved = [os.dup2(one, above + index) for index, one in enumerate(descriptors)]
    for number, one in enumerate(moved):
        os.dup2(one, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if above > 1000 else 1024)
    sys.stdin = sys.__stdin__ = _text(0, "r")
    sys.stdout = sys.__stdout__ = _text(1, "w")
    sys.stderr = sys.__stderr__ = _text(2, "w", errors="backslashreplace")


def _text(descriptor: int, mode: str, errors: str | None = None) -> io.TextIOWrapper:
    buffered = descriptor == 1 and not os.isatty(1)
    encoding, _, how = os.environ.get("PYTHONIOENCODING", "").partition(":")
    stream = open(  # noqa: SIM115
        descriptor, mode, encoding=encoding or None, errors=errors or how or None, closefd=False
    )
    assert isinstance(stream, io.TextIOWrapper)
    stream.reconfigure(line_buffering=not buffered)
    return stream


def import_everything() -> None:
    """Import what the programs will, so that they need not."""
    for name in IMPORTED:
        with suppress(ImportError):  # what is not there is not missed here, but by the program
            importlib.import_module(name)


def serve(asked: socket.socket) -> Job:
    """Return in each new process, with what it is to be; the zygote itself never returns."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, LONGEST, 3)
        if not message:
            os._exit(0)
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                return Job(json.loads(message), list(descriptors))
            asked.send(str(pid).encode())
            os._exit(0)
        os.waitpid(between, 0)  # from now on the program is a child of whoever asked
        for descriptor in descriptors:
            os.close(descriptor)
        asked.send(b"adopted")


def main() -> None:
    """Serve, and be what is asked for."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    base = _without_own(sys.path)
    how = os.environ.get(COUNTED_ALONE)
    with nullcontext() if how is None else counted_alone(how):
        import_everything()
    gc.collect()
    gc.freeze()
    job = serve(asked)
    job.become(base)
    job.run()


def _without_own(path: list[str]) -> list[str]:
    """The search path without what was said for this process alone."""
    given = {str(Path(one).absolute()) for one in os.environ.get("PYTHONPATH", "").split(":")}
    return [one for one in path[1:] if str(Path(one).absolute()) not in given]


if __name__ == "__main__":
    main()

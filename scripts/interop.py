"""Real clients, unmodified, against `tests/clients/server.py` and `login_server.py`.

    make interop
    make interop ARGS="--only sdk"

A line for each case; exits non-zero unless all passed. Node and the clients are installed from npm
into `.tools/clients`, FastMCP's tasks from PyPI into an environment of their own. Times are
compressed: a client that gives up after a second stands for one that does after a minute.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import node_packages
from headway_server import served

CHECKOUT = Path(__file__).resolve().parent.parent
CLIENTS = CHECKOUT / "tests" / "clients"
OUT = CHECKOUT / "out" / "interop"
TARGET = f"{CLIENTS / 'server.py'}:mcp"
UV = CHECKOUT / ".tools" / ".venv" / "bin" / "uv"

WITHIN = 60
"""Seconds that a client may take for all it is told."""

DEADLINE = 1000
"""Milliseconds after which the impatient clients give up, as 60 s is in the field."""

TASKS = ("fastmcp==4.1.4", "fastmcp-tasks==4.1.4")
"""The newest client with the tasks extension; it takes the FastMCP of its own number only."""

Step = dict[str, Any]


class Missing(Exception):
    """What a case needs is not on this machine."""


Check = Callable[[list[Any]], bool]


@dataclass(frozen=True)
class Case:
    """Steps for a client, and what has to come of them."""

    name: str
    steps: list[Step]
    check: Check
    only: str = ""
    """The one client that can do it."""


# What came of a step


def text(outcome: Any) -> str:
    """The last text of a result."""
    return outcome["result"]["content"][-1]["text"]


def once(outcome: Any, stopped: int = 0) -> bool:
    """Whether the tool ran one time."""
    return outcome["result"]["structuredContent"] == {"began": 1, "stopped": stopped}


def progressed(outcome: Any, total: int = 10) -> bool:
    """Strictly increasing, readable, and the last one is the total."""
    values = [seen["progress"] for seen in outcome["progress"]]
    is_readable = all(seen.get("message") for seen in outcome["progress"])
    return values == sorted(set(values)) and values[-1] == total and is_readable


# The cases


@dataclass(frozen=True)
class LoginCase:
    """Steps for a client that has to log in, after those of connecting."""

    name: str
    server: str
    """How long tokens are good, and whether something renews them; see `login_server.py`."""
    steps: list[Step]
    check: Check
    clients: Sequence[str] = ("sdk", "client-2025", "client-2026")


WITH_LESS, WITH_MORE = "alice with mcp", "alice with mcp more"


def call(tool: str, /, **options: Any) -> Step:
    """A step that calls a tool; options of the client beside its arguments."""
    wanted = {name: options.pop(name) for name in _CLIENT_OPTIONS & set(options)}
    return {"do": wanted.pop("do", "call"), "tool": tool, "args": options, **wanted}


_CLIENT_OPTIONS = {"do", "progress", "reset", "timeout", "abortAfter"}

CASES: Final[Sequence[Case]] = [
    Case(
        "lists the tools, `continue_run` among them",
        [{"do": "tools"}],
        lambda came: {"quick", "work", "continue_run"} <= {t["name"] for t in came[0]["tools"]},
    ),
    Case(
        "a quick call with default options",
        [call("quick", text="a")],
        lambda came: text(came[0]) == "you said a",
    ),
    Case(
        "progress: increasing, readable, complete",
        [call("work", name="p", seconds=0.6, progress=True)],
        lambda came: text(came[0]) == "p is done" and progressed(came[0]),
    ),
    Case("a tool's error", [call("fail")], lambda came: came[0]["result"]["isError"] is True),
    Case("a question", [call("greet")], lambda came: text(came[0]) == "hello Ada"),
    Case(
        "a call that is aborted stops its tool, once",
        [
            call("work", name="x", seconds=30, abortAfter=1),
            {"do": "stopped", "args": {"name": "x"}},
        ],
        lambda came: "enough" in came[0]["error"] and once(came[1], stopped=1),
    ),
    Case(
        "hears that the list of tools has changed",
        [call("grow", name="@grown"), {"do": "changed", "count": 1}],
        lambda came: came[1]["changes"] >= 1,
    ),
    Case(
        "five deadlines long, with nothing but a deadline: a handle, and the rest",
        [
            call("work", name="n", seconds=5, timeout=DEADLINE, do="finish"),
            call("count", name="n"),
        ],
        lambda came: text(came[0]) == "n is done" and came[0]["waits"] >= 4 and once(came[1]),
    ),
    Case(
        "five deadlines long, with a token that resets the deadline",
        [
            call(
                "work", name="r", seconds=5, steps=50, timeout=DEADLINE, progress=True, reset=True
            ),
            call("count", name="r"),
        ],
        lambda came: text(came[0]) == "r is done" and progressed(came[0], 50) and once(came[1]),
    ),
    Case(
        "five deadlines long, as a task of 2025-11-25",
        [
            call("work", name="t", seconds=5, timeout=10 * DEADLINE, do="task"),
            call("count", name="t"),
        ],
        lambda came: (
            came[0]["kinds"][0] == "taskCreated" and text(came[0]) == "t is done" and once(came[1])
        ),
        only="sdk",
    ),
]

PACKAGES: dict[str, tuple[str, Any]] = {
    "sdk": ("sdk", None),
    "client-2025": ("client", "legacy"),
    "client-2026": ("client", {"pin": "2026-07-28"}),
}
"""The TypeScript clients: their package, and how they negotiate."""


# Running


def typescript(name: str, url: str, node: Path) -> Iterator[tuple[str, bool, str]]:
    """Every case with one of the TypeScript clients."""
    package, mode = PACKAGES[name]
    for case in CASES:
        if case.only in ("", name):
            steps = named(case.steps, name)
            orders = {"package": package, "mode": mode, "url": url, "steps": steps}
            came = said([node, node.parent.parent.parent / "client.mjs", json.dumps(orders)])
            yield case.name, *verdict(case.check, came, name)


LOGIN_CASES: Final[Sequence[LoginCase]] = [
    LoginCase(
        "logs in, registered by itself and with PKCE, and steps up for a tool",
        "600 refresh",
        [call("who"), call("pay"), call("who"), call("seen")],
        lambda came: (
            [one["logins"] for one in came] == [1, 0, 1, 0, 0]
            and [text(one) for one in came[1:4]] == [WITH_LESS, WITH_MORE, WITH_MORE]
            and seen(came) == {"clients": 1, "logins": [["mcp"], ["mcp", "more"]], "renewals": 0}
        ),
        clients=("client-2025", "client-2026"),
    ),
    LoginCase(
        "logs in, and renews its token instead of stepping up: the call is refused",
        "600 refresh",
        [call("who"), call("pay"), call("who"), call("seen")],
        lambda came: (
            "403 after trying upscoping" in came[2]["error"]
            and text(came[3]) == WITH_LESS
            and seen(came) == {"clients": 1, "logins": [["mcp"]], "renewals": 1}
        ),
        clients=("sdk",),
    ),
    LoginCase(
        "steps up where nothing renews its token",
        "600 none",
        [call("who"), call("pay"), call("seen")],
        lambda came: (
            [text(one) for one in came[1:3]] == [WITH_LESS, WITH_MORE]
            and seen(came) == {"clients": 1, "logins": [["mcp"], ["mcp", "more"]], "renewals": 0}
        ),
    ),
    LoginCase(
        "comes back after its token is over, twice, and nobody is asked",
        "3 refresh",
        [{"do": "renewed", "count": 2}, call("who"), call("seen")],
        lambda came: (
            [one["logins"] for one in came] == [1, 0, 0, 0]
            and text(came[2]) == WITH_LESS
            and (seen(came)["logins"], seen(came)["renewals"] >= 2) == ([["mcp"]], True)
        ),
    ),
]


def seen(came: list[Any]) -> dict[str, Any]:
    """What the authorization server had seen at the end."""
    return came[-1]["result"]["structuredContent"]


def login(node: Path) -> Iterator[tuple[str, bool, str]]:
    """The TypeScript clients at a server whose tokens an authorization server gives out."""
    for case in LOGIN_CASES:
        for name in case.clients:
            package, mode = PACKAGES[name]
            steps = [{"do": "connect"}, *case.steps]
            with login_server(case.server) as url:
                orders = {"package": package, "mode": mode, "url": url, "steps": steps}
                came = said([node, node.parent.parent.parent / "login.mjs", json.dumps(orders)])
            yield f"{name} {case.name}", *verdict(case.check, came, "")


@contextlib.contextmanager
def login_server(options: str) -> Generator[str]:
    """`tests/clients/login_server.py` with these options; its URL."""
    command = [sys.executable, "-m", "tests.clients.login_server", *options.split()]
    with (OUT / "login.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=log, text=True
        )
        with process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().strip()
            finally:
                process.terminate()


def reconnecting(node: Path) -> Iterator[tuple[str, bool, str]]:
    """Clients whose streams are closed early, and who come back to them (SEP-1699)."""
    known = OUT / "clients.toml"
    known.write_text('[[client]]\nname = "interop"\nresumes = true\n')
    options = ("--hand-over", "500ms", "--clients", str(known))
    steps = [call("work", name="w", seconds=4), call("count", name="w")]
    with served(OUT / "closing.log", "run", TARGET, *options) as url:
        for name in ("sdk", "client-2025"):
            package, mode = PACKAGES[name]
            orders = {"package": package, "mode": mode, "url": url, "steps": named(steps, name)}
            came = said([node, node.parent.parent.parent / "client.mjs", json.dumps(orders)])
            yield (
                f"{name} comes back to a stream that was closed early",
                *verdict(came_back, came, name),
            )


def came_back(came: list[Any]) -> bool:
    """Whether a call of eight windows got its result over several streams, and ran once."""
    return text(came[0]) == "w is done" and came[0]["resumed"] >= 2 and once(came[1])


def named(steps: list[Step], name: str) -> list[Step]:
    """The steps with the names of works for one client: every client counts for itself."""
    return json.loads(json.dumps(steps).replace('"name": "', f'"name": "{name}-'))


def verdict(check: Check, came: str, name: str) -> tuple[bool, str]:
    """Whether the check holds for what a client printed; and that, where it does not."""
    try:
        holds = check(json.loads(came.replace(f"{name}-", "") if name else came))
    except (ValueError, LookupError, TypeError):
        holds = False
    return holds, "" if holds else came[-2000:]


def fastmcp_tasks(url: str) -> Iterator[tuple[str, bool, str]]:
    """FastMCP's client with the tasks extension, in an environment of its own."""
    if not UV.exists():
        raise Missing("uv: run it with `make interop`")
    packages = [word for package in TASKS for word in ("--with", package)]
    came = said([UV, "run", "--no-project", "--isolated", "-q", *packages, "python",
                 CLIENTS / "with_tasks.py", url])  # fmt: skip
    expected = [
        "quiet is done", "working", "held is done",
        [{"began": 1, "stopped": 0}, {"began": 1, "stopped": 0}],
    ]  # fmt: skip
    holds, text = verdict(lambda found: found == expected, came.strip().rpartition("\n")[2], "")
    yield (
        "tasks: finished behind the call, and by its handle",
        holds,
        text or ("" if holds else came),
    )


def inspector(url: str, node: Path) -> Iterator[tuple[str, bool, str]]:
    """The Inspector's command line, over HTTP and over stdio."""
    program = [node, node.parent / "mcp-inspector", "--cli"]
    pipe = [sys.executable, "-m", "headway", "run", TARGET, "--stdio"]
    for way, target in (("HTTP", [url, "--transport", "http"]), ("stdio", pipe)):
        came = said([*program, *target, "--method", "tools/list"])
        yield f"lists the tools over {way}", '"quick"' in came, came[-2000:]
        arguments = ["--method", "tools/call", "--tool-name", "work"]
        arguments += ["--tool-arg", f"name=inspector-{way}", "seconds=0.2"]
        came = said([*program, *target, *arguments])
        yield f"calls a tool over {way}", f"inspector-{way} is done" in came, came[-2000:]


def curl() -> Iterator[tuple[str, bool, str]]:
    """The commands of the README, word for word but for the address."""
    if shutil.which("curl") is None:
        raise Missing("curl")
    page = (CHECKOUT / "README.md").read_text()
    commands = re.findall(r"^\$ (curl .*?)(?=^\$ |^```)", page, re.MULTILINE | re.DOTALL)
    with served(OUT / "serve.log", "serve", "--root", str(CLIENTS)) as url:
        for number, command in enumerate(commands, 1):
            came = said(["sh", "-c", command.replace("http://127.0.0.1:8000/mcp", url)])
            holds = '"progress":5,"total":5' in came and '"result":' in came
            yield f"command {number} of the README", holds, came[-2000:]
    if not commands:
        yield "commands of the README", False, "there is none"


def said(command: list[Any]) -> str:
    """What a program prints, within its time."""
    environment = {**os.environ, "NODE_NO_WARNINGS": "1"}
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False,
            timeout=WITHIN, env=environment, cwd=OUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"did not end within {WITHIN} s"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def main() -> int:
    """All clients, or those named."""
    parser = argparse.ArgumentParser(description="Real clients against a Headway server.")
    names = [*PACKAGES, "reconnecting", "login", "fastmcp-tasks", "inspector", "curl"]
    parser.add_argument("--only", choices=names, action="append", default=[])
    only = parser.parse_args().only or names
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    modules = node_packages.install(CLIENTS)
    for program in ("client.mjs", "login.mjs"):
        shutil.copy(CLIENTS / program, modules.parent)
    node = modules / ".bin" / "node"
    counts = {True: 0, False: 0}
    # Half of the impatient clients' deadline.
    window = f"{DEADLINE // 2}ms"
    with served(OUT / "server.log", "run", TARGET, "--hand-over", window) as url:
        clients: dict[str, Callable[[], Iterator[tuple[str, bool, str]]]] = {
            **{name: lambda name=name: typescript(name, url, node) for name in PACKAGES},
            "reconnecting": lambda: reconnecting(node),
            "login": lambda: login(node),
            "fastmcp-tasks": lambda: fastmcp_tasks(url),
            "inspector": lambda: inspector(url, node),
            "curl": curl,
        }
        for name in only:
            try:
                for case, passed, details in clients[name]():
                    counts[passed] += 1
                    print(f"{'pass' if passed else 'FAIL'}  {name:<14} {case}", flush=True)
                    print(
                        *(f"      {line}" for line in details.splitlines() if not passed),
                        sep="\n",
                        end="",
                    )
            except Missing as missing:
                counts[False] += 1
                print(f"FAIL  {name:<14} not run; this machine lacks {missing}")
    print(f"{counts[True]} of {sum(counts.values())} cases passed")
    return 0 if not counts[False] else 1


if __name__ == "__main__":
    sys.exit(main())

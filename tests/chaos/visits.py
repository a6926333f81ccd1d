"""How clients come and go that never say goodbye: tables of visits, and of what is refused.

A visit is one client with connections of its own, all of which are torn down behind it.
"""

import itertools
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tests.kit.http import Connection
from tests.kit.peers import JSON_AND_SSE, Modern, Session, Wire
from tests.kit.waits import within

from headway.clock import Clock

MAX_BODY = 65_536
"""What the server takes, so that too much is not much."""

TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}

_jobs = itertools.count(1)


class Wrong(Exception):
    """An answer that should have been another one."""


class Visit(Wire):
    """One client."""

    def __init__(self, origin: str, chance: random.Random) -> None:
        super().__init__(origin, cast("Any", None), Clock())
        self.chance = chance

    def work(self, steps: int = 0) -> dict[str, object]:
        """Arguments of a tool that takes `steps`, or a few."""
        steps = steps or self.chance.randint(1, 3)
        return {"job": f"visit-{next(_jobs)}", "steps": steps, "pause": 0.01}


def expect(what: str, status: int, *statuses: int) -> None:
    if status not in statuses:
        raise Wrong(f"{what} was answered {status} instead of {statuses[0]}")


async def opened(visit: Visit) -> Session:
    version = visit.chance.choice(["2025-11-25", "2025-11-25", "2025-06-18", "2025-03-26"])
    return await Session.open(visit, version)


# Of 2025


async def only_open(visit: Visit) -> None:
    await opened(visit)


async def leave_before_the_answer(visit: Visit) -> None:
    """The server opens a session whose id nobody ever learns."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
    session = Session(visit, "2025-11-25", "", {})
    await session.send(session.message("initialize", params, id=0))


async def call(visit: Visit) -> None:
    session = await opened(visit)
    answer = await session.call("plain", visit.work(), token="t")
    expect("a call", answer.status, 200)
    if "result" not in await answer.outcome():
        raise Wrong("a call had no result")


async def leave_a_call(visit: Visit) -> None:
    session = await opened(visit)
    message = session.call_message("plain", visit.work(5), token="t")
    await _first_byte(await session.send(message))


async def leave_a_get(visit: Visit) -> None:
    session = await opened(visit)
    expect("a GET", (await session.get()).status, 200)


async def delete(visit: Visit) -> None:
    session = await opened(visit)
    expect("a DELETE", (await session.delete()).status, 200)


async def delete_amid_work(visit: Visit) -> None:
    """A call and a GET stream are open, and end with the session."""
    session = await opened(visit)
    expect("a GET", (await session.get()).status, 200)
    await _first_byte(await session.send(session.call_message("plain", visit.work(500), token=1)))
    expect("a DELETE", (await session.delete()).status, 200)


# Of 2026


async def modern_call(visit: Visit) -> None:
    answer = await Modern(visit).call("plain", visit.work(), token=1)
    if "result" not in await answer.outcome():
        raise Wrong("a call of 2026 had no result")


async def modern_cut(visit: Visit) -> None:
    """The cut is its cancel: nothing works on for the 5 s that it would have taken."""
    client = Modern(visit)
    await _first_byte(await client.send(client.call_message("plain", visit.work(500), token=1)))


async def modern_task(visit: Visit) -> None:
    """Nobody asks for it ever again. One that is over by then is answered with its result."""
    answer = await Modern(visit, TASKS).call("tasked", visit.work(20))
    if not {"taskId", "content"} & (await answer.outcome()).get("result", {}).keys():
        raise Wrong("there was neither a task nor a result")


async def modern_listen(visit: Visit) -> None:
    wanted = {"notifications": {"toolsListChanged": True}}
    answer = await Modern(visit).request("subscriptions/listen", wanted)
    expect("a listener", answer.status, 200)
    await answer.message()


async def _first_byte(connection: Connection) -> None:
    if not await within(connection.reader.read(1), 60):
        raise Wrong("a connection ended without an answer")


Way = Callable[[Visit], Awaitable[None]]

INFO = {"name": "visitor", "version": "1"}

SESSIONS: dict[Way, int] = {
    only_open: 40,
    call: 15,
    leave_a_call: 12,
    leave_a_get: 18,
    leave_before_the_answer: 5,
    delete: 5,
    delete_amid_work: 5,
}
"""What a client does that opens a session; of a hundred. Ten are deleted."""

MODERN: dict[Way, int] = {modern_call: 4, modern_cut: 3, modern_task: 2, modern_listen: 1}
"""What a client does that needs none; shares of them."""


# What is refused

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
BASIC = {"Accept": JSON_AND_SSE, "Content-Type": "application/json"}


@dataclass(frozen=True)
class Refused:
    """A request without a session, and the status that it is answered with."""

    what: str
    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = json.dumps(PING).encode()
    method: str = "POST"

    async def __call__(self, visit: Visit) -> None:
        answer = await visit.ask(self.method, BASIC | self.headers, self.body)
        expect(self.what, answer.status, self.status)
        await answer.body()


REFUSED = (
    Refused("a foreign host", 421, {"Host": "evil.example"}),
    Refused("a foreign origin", 403, {"Origin": "http://evil.example"}),
    Refused("broken JSON", 400, body=b'{"jsonrpc": "2.0",'),
    Refused("deep JSON", 400, body=b"[" * 200 + b"]" * 200),
    Refused("too large a body", 413, body=b" " * (MAX_BODY + 1)),
    Refused("no session", 400),
    Refused("an unknown session", 404, {"Mcp-Session-Id": "nobody's"}),
    Refused("a GET of an unknown session", 404, {"Mcp-Session-Id": "nobody's"}, b"", "GET"),
    Refused("a DELETE of an unknown session", 404, {"Mcp-Session-Id": "nobody's"}, b"", "DELETE"),
    Refused("an unknown version", 400, {"MCP-Protocol-Version": "1999-01-01"}),
    Refused("2026 without its envelope", 400, {"MCP-Protocol-Version": "2026-07-28"}),
    Refused("a form", 415, {"Content-Type": "text/plain"}),
    Refused("a method that there is not", 405, method="PUT"),
)

"""What clients say of themselves and subscribe to: kept as little as is needed, and counted."""

import gc
from typing import Any

import pytest
from tests.kit.http import Answer
from tests.kit.peers import META, Modern, Session, Wire, served
from tests.kit.stdio import piped

from headway import Headway, Settings
from headway.events import SessionOpened

pytestmark = pytest.mark.anyio

LARGE = "A" * 1_000_000


def server() -> Headway:
    mcp = Headway("kept")

    @mcp.resource("kept://one")
    def one() -> str:
        return "one"

    @mcp.tool()
    def who(ctx: Any = None) -> str:
        return "me"

    return mcp


async def initialize(wire: Wire, **params: Any) -> tuple[Session, Answer]:
    session = Session(wire, "2025-11-25", "", {})
    said = {"protocolVersion": "2025-11-25", "capabilities": {}, **params}
    said.setdefault("clientInfo", {"name": "x", "version": "1"})
    return session, await session.request("initialize", said, id=0)


def held(wire: Wire) -> int:
    """Bytes of everything that sessions have in the journal."""
    return wire.app.journal.usage.in_memory


async def error_of(answer: Answer) -> dict[str, Any]:
    return (await answer.json())["error"]


# The handshake


@pytest.mark.parametrize("stateless", [False, True])
async def test_capabilities_that_are_too_large_are_refused_with_the_limit(stateless: bool) -> None:
    async with served(server(), settings=Settings(stateless=stateless)) as wire:
        _, answer = await initialize(wire, capabilities={"experimental": {"x": {"y": LARGE}}})
        assert answer.status == 400
        error = await error_of(answer)
        assert "16384 are accepted (max_client)" in error["message"]
        assert error["data"] == {"limit": "max_client"}
        _, answer = await initialize(wire, capabilities={"experimental": {"x": {"y": "A" * 9000}}})
        assert answer.status == 200


@pytest.mark.parametrize(
    "params",
    [
        {"clientInfo": {"name": LARGE, "version": LARGE, "title": LARGE, "junk": {"x": [LARGE]}}},
        {
            "clientInfo": {
                "name": "x",
                "version": "1",
                **{f"f{n}": LARGE[:100_000] for n in range(30)},
            }
        },
        {"clientInfo": {"name": "x", "version": "1", "icons": [{"src": LARGE}] * 3}},
        {"clientInfo": {"name": "x", "version": "1", LARGE: 1}},
        {"clientInfo": {"name": "x", "version": "1"}, "protocolVersion": LARGE},
        {"clientInfo": {"name": "x", "version": "1"}, "_meta": {"junk": LARGE}},
        {"clientInfo": {"name": "x", "version": "1"}, "junk": LARGE},
    ],
    ids=["texts", "fields", "icons", "a name", "version", "meta", "params"],
)
async def test_what_a_client_says_of_itself_is_cut(params: dict[str, Any]) -> None:
    async with served(server()) as wire:
        before = held(wire)
        _, answer = await initialize(wire, **params)
        assert answer.status == 200, await answer.body()
        assert held(wire) - before < 30_000
        (session,) = wire.app.life.sessions.known
        kept = session.connection.client_params
        assert kept is not None
        assert len(kept.model_dump_json()) < 30_000
        (entry,) = await wire.app.journal.read(session.stream)
        assert isinstance(entry.event, SessionOpened)
        assert len(bytes(entry.event.params)) < 30_000


async def test_sessions_hold_no_more_than_they_may_and_unused_ones_make_room() -> None:
    settings = Settings(max_session_bytes=100_000)
    async with served(server(), settings=settings) as wire:
        for number in range(30):
            said = {"experimental": {"x": {"y": f"{number}" + "A" * 9000}}}
            _, answer = await initialize(wire, capabilities=said)
            assert answer.status == 200
        assert 3 < len(wire.app.life.sessions) < 12
        assert wire.app.life.sessions.room.held <= settings.max_session_bytes
        assert wire.app.life.sessions.made_room["max_session_bytes"] > 15


async def test_sessions_that_are_read_make_no_room_and_the_next_one_is_refused() -> None:
    settings = Settings(max_session_bytes=40_000)
    large = {"experimental": {"x": {"y": "A" * 9000}}}
    async with served(server(), settings=settings) as wire:
        for _ in range(4):
            session = await Session.open(wire, capabilities=large)
            assert (await session.get()).status == 200
        _, answer = await initialize(wire, capabilities=large)
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        assert (await error_of(answer))["data"] == {"limit": "max_session_bytes"}


# Subscriptions


async def subscribe(session: Session, uri: str, verb: str = "subscribe") -> Answer:
    return await session.request(f"resources/{verb}", {"uri": uri})


async def test_a_uri_that_is_too_long_is_not_subscribed_to() -> None:
    async with served(server()) as wire:
        session = await Session.open(wire)
        refused = await subscribe(session, "x:" + "A" * 2047)
        assert refused.status == 400
        assert "2048 are accepted" in (await error_of(refused))["message"]
        assert "result" in await (await subscribe(session, "x:" + "A" * 2046)).outcome()


async def test_a_session_has_as_many_subscriptions_as_it_may() -> None:
    async with served(server(), settings=Settings(max_subscriptions=3)) as wire:
        session, other = await Session.open(wire), await Session.open(wire)
        for number in range(3):
            assert "result" in await (await subscribe(session, f"x:{number}")).outcome()
        refused = await subscribe(session, "x:3")
        assert refused.status == 400
        assert (await error_of(refused))["data"] == {"limit": "max_subscriptions"}
        assert "result" in await (await subscribe(session, "x:2")).outcome()  # it is one already
        assert "result" in await (await subscribe(other, "x:3")).outcome()
        assert "result" in await (await subscribe(session, "x:2", "unsubscribe")).outcome()
        assert "result" in await (await subscribe(session, "x:3")).outcome()


async def test_what_is_said_in_a_session_counts_as_what_it_holds() -> None:
    """Each subscription that comes and goes stays in its stream for a while."""
    settings = Settings(max_session_bytes=50_000)
    async with served(server(), settings=settings) as wire:
        session = await Session.open(wire)
        statuses = list[int]()
        for number in range(60):
            for verb in ("subscribe", "unsubscribe"):
                answer = await subscribe(session, f"x:{number}" + "A" * 1000, verb)
                statuses.append(answer.status)
        assert statuses[0] == 200
        assert statuses[-1] == 503
        assert wire.app.life.sessions.room.held <= settings.max_session_bytes
        assert (await session.request("ping")).status == 200


# 2026


def listen(client: Modern, wanted: dict[str, Any]) -> dict[str, Any]:
    return client.body("subscriptions/listen", {"notifications": wanted})


TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


@pytest.mark.parametrize(
    "wanted",
    [
        {"taskIds": [f"t{n}" for n in range(1001)]},
        {"resourceSubscriptions": [f"headway://runs/{n}" for n in range(1001)]},
        {"taskIds": ["t"] * 501, "resourceSubscriptions": ["x:y"] * 500},
        {"resourceSubscriptions": ["x:" + "A" * 2047]},
        {"resourceSubscriptions": ["x:" + "A" * 2000] * 200},
    ],
    ids=["tasks", "runs", "both", "a long one", "long ones"],
)
async def test_who_listens_to_too_much_is_refused(wanted: dict[str, Any]) -> None:
    async with served(server()) as wire:
        client = Modern(wire, TASKS)
        refused = await client.post(listen(client, wanted))
        assert refused.status == 400
        assert (await error_of(refused))["code"] == -32602
        assert not wire.app.engine.runs


async def test_a_thousand_names_are_listened_to_and_looked_up_together() -> None:
    async with served(server()) as wire:
        asked: list[int] = []
        heads = wire.app.journal.head_of_each

        async def counted(streams: Any) -> Any:
            asked.append(len(streams))
            return await heads(streams)

        async def alone(stream: str) -> Any:
            raise AssertionError(f"{stream} was looked up by itself")

        wire.app.journal.head_of_each = counted
        wire.app.journal.head = alone
        client = Modern(wire, TASKS)
        wanted = {
            "taskIds": [f"{n:040}" for n in range(500)],
            "resourceSubscriptions": [f"headway://runs/{n:040}" for n in range(500)],
        }
        answer = await client.post(listen(client, wanted))
        said = await answer.message()
        assert said["params"]["notifications"].get("taskIds") == []
        assert len(asked) <= 5
        answer.cut()


async def test_of_a_listener_only_is_kept_what_it_wants_to_hear() -> None:
    """It lasts as long as its reader, and there may be as many as connections."""
    async with served(server()) as wire:
        client, answers = Modern(wire), list[Answer]()
        body = listen(client, {"toolsListChanged": True, "junk": LARGE})
        body["params"]["junk"] = body["junk"] = LARGE
        gc.collect()
        before = strings()
        for _ in range(5):
            answers.append(await client.post(body))
            await answers[-1].message()
        assert strings() - before < 2 * len(LARGE)
        assert len(wire.app.engine.runs) == 5
        for answer in answers:
            answer.cut()


def strings() -> int:
    """The characters of all large texts that anything alive refers to."""
    gc.collect()
    found: dict[int, int] = {}
    for one in gc.get_objects():
        for inner in gc.get_referents(one):
            if type(inner) is str and len(inner) > 100_000:
                found[id(inner)] = len(inner)
    return sum(found.values())


@pytest.mark.parametrize("method", ["tools/call", "tools/list", "subscriptions/listen"])
async def test_what_requests_of_2026_say_of_their_client_is_bounded(method: str) -> None:
    async with served(server()) as wire:
        client = Modern(wire, {"experimental": {"x": {"y": LARGE}}})
        params: dict[str, Any] = {
            "tools/call": {"name": "who", "arguments": {}},
            "tools/list": {},
            "subscriptions/listen": {"notifications": {"toolsListChanged": True}},
        }[method]
        refused = await client.post(client.body(method, params))
        assert refused.status == 400
        assert (await error_of(refused))["data"] == {"limit": "max_client"}
        client = Modern(wire)
        body = client.body(method, params)
        body["params"]["_meta"][f"{META}clientInfo"] = {"name": LARGE, "version": LARGE}
        answer = await client.post(body)
        assert answer.status == 200
        answer.cut()


# Many at once


async def test_a_batch_has_at_most_a_thousand_messages() -> None:
    async with served(server()) as wire:
        session = await Session.open(wire, "2025-03-26")
        note = {"jsonrpc": "2.0", "method": "notifications/x"}
        refused = await session.post([note] * 1001)
        assert refused.status == 413
        assert "1000 are accepted" in (await error_of(refused))["message"]
        assert (await session.post([note] * 1000)).status == 202


async def test_over_stdio_the_same_is_refused() -> None:
    async with piped(server()) as client:
        said: dict[str, Any] = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"experimental": {"x": {"y": "A" * 20_000}}},
            "clientInfo": {"name": "x", "version": "1"},
        }
        refused = await client.ask("initialize", said)
        assert refused["error"]["data"] == {"limit": "max_client"}

"""Others read the storage: of an encrypted journal they learn nothing that was said in a call."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from tests.kit.fixtures import StartRedis, own
from tests.kit.floor import Floor, floor
from tests.kit.keys import keyed_request
from tests.kit.peers import Client, Modern, Session, Wire, connect, each_era, text_of
from tests.kit.tools import Name
from tests.kit.waits import PATIENCE

from headway import Encryption, Headway, Settings, checkpoint, log, part, report, track
from headway.encryption import new_key

pytestmark = pytest.mark.anyio

TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}, "elicitation": {}}

SAID = {"argument", "message", "part", "log", "state", "result", "error", "question"}
"""The beginnings of the words that a call stores, each followed by the word of its test."""


def server_for(where: Any) -> Headway:
    mcp = Headway("secretive")

    @mcp.tool(where=where, restart=True, rate=0)
    async def tell(argument: str) -> str:
        word = argument.removeprefix("argument-")
        report(1, 3, f"message-{word}")
        part({"is": f"part-{word}"})
        log(f"log-{word}")
        async for _ in track([f"item-{word}", "last"], checkpoint=True):
            await checkpoint({"at": f"state-{word}"})
        return f"result-{word}"

    @mcp.tool(where=where, restart=True)
    def fail(argument: str) -> str:
        raise ToolError(argument.replace("argument", "error"))

    @mcp.tool(where=where)
    async def ask(argument: str, ctx: Context[Any, Any]) -> str:
        answer = await ctx.elicit(argument.replace("argument", "question"), Name)
        return f"{answer.action} {getattr(getattr(answer, 'data', None), 'name', '-')}"

    return mcp


async def bytes_of(url: str) -> bytes:
    """All that a storage has, of everybody."""
    if url.startswith("sqlite:"):
        file = Path(url.removeprefix("sqlite:///"))
        return b"".join(each.read_bytes() for each in sorted(file.parent.glob(f"{file.name}*")))
    async with redis.asyncio.Redis.from_url(url.partition("?")[0]) as found:
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"string": found.get,
            b"hash": found.hgetall,
            b"stream": found.xrange,
            b"zset": lambda key: found.zrange(key, 0, -1),
            b"list": lambda key: found.lrange(key, 0, -1),
            b"set": found.smembers,
        }
        held: list[bytes] = []
        async for key in found.scan_iter("*", count=1000):
            kind = await found.type(key)
            if kind in read:
                held.append(repr((key, await read[kind](key))).encode())
        return b"\n".join(held)


def words_in(held: bytes, word: str) -> set[str]:
    return {kind for kind in (*SAID, "answer", "item", "key") if f"{kind}-{word}".encode() in held}


class Site:
    """A storage, and the servers on it."""

    def __init__(self, floor: Floor, where: str) -> None:
        self._floor, self._where = floor, where
        self.url = floor.url

    async def serve(self, encryption: Encryption | None) -> Wire:
        return await self._floor.replica(server_for(self._where), encryption=encryption)

    async def work(self, encryption: Encryption | None) -> None:
        if self._where == "worker":
            await self._floor.worker(server=server_for(self._where), encryption=encryption)


@pytest.fixture(params=["sqlite", "redis"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Site]:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    if request.param == "redis":
        start_redis: StartRedis = request.getfixturevalue("start_redis")
        url = own((await asyncio.to_thread(start_redis)).url)  # all that it holds is looked at
    async with floor(url) as made:
        yield Site(made, "worker" if request.param == "redis" else "here")


async def called(client: Client, tool: str, word: str) -> Any:
    """Call a tool with a key, and return the answer when the call has said something."""
    more: dict[str, Any] = {"token": "t"}
    if isinstance(client, Modern):
        more["level"] = "debug"
    arguments = {"argument": f"argument-{word}"}
    request = keyed_request(client, tool, f"key-{tool}-{word}", arguments, **more)
    return await client.post(request)


async def answer_in_2025(wire: Wire, word: str) -> str:
    session = await Session.open(wire, capabilities={"elicitation": {}})
    answer = await session.call("ask", {"argument": f"argument-{word}"}, token="t")
    while (message := await answer.message())["method"] != "elicitation/create":
        pass
    content = {"action": "accept", "content": {"name": f"answer-{word}"}}
    assert (await session.reply(message, content)).status == 202
    return text_of((await answer.rest())[-1])


async def answer_in_2026(wire: Wire, word: str) -> str:
    client = Modern(wire, TASKS)
    asked = await client.call("ask", {"argument": f"argument-{word}"})
    task = (await asked.outcome())["result"]["taskId"]
    named = {"Mcp-Name": task}

    async def state() -> dict[str, Any]:
        body = client.body("tasks/get", {"taskId": task})
        return (await (await client.post(body, named)).json())["result"]

    async with asyncio.timeout(PATIENCE):
        while not (questions := (await state()).get("inputRequests")):
            pass
        content = {"action": "accept", "content": {"name": f"answer-{word}"}}
        responses = {"taskId": task, "inputResponses": dict.fromkeys(questions, content)}
        update = client.body("tasks/update", responses)
        assert "error" not in await (await client.post(update, named)).json()
        while (ended := await state())["status"] in ("working", "input_required"):
            pass
    return ended["result"]["content"][0]["text"]


async def everything_said(
    site: Site, era: str, encryption: Encryption | None, word: str
) -> tuple[set[str], set[str]]:
    """Have every kind of thing said and stored; return what the storage shows of it.

    First while a call waits for a worker, then at the end.
    """
    wire = await site.serve(encryption)
    client = await connect(wire, era)
    telling = await called(client, "tell", word)
    await telling.message()  # it waits for a worker, or has reported
    for run in list(wire.app.engine.runs.values()):
        await wire.app.journal.wait_until_stored(run.stream)
    waiting = words_in(await bytes_of(site.url), word)
    await site.work(encryption)
    assert text_of((await telling.rest())[-1]) == f"result-{word}"
    failed = await (await called(client, "fail", word)).outcome()
    assert f"error-{word}" in text_of(failed)
    answer = answer_in_2025 if era == "2025" else answer_in_2026
    assert await answer(wire, word) == f"accept answer-{word}"
    return waiting, words_in(await bytes_of(site.url), word)


@each_era
async def test_nothing_that_was_said_in_a_call_can_be_read_in_the_storage(
    site: Site, era: str
) -> None:
    encryption = Encryption((new_key(),))
    assert await everything_said(site, era, encryption, uuid4().hex) == (set(), set())


@each_era
async def test_without_encryption_the_same_look_at_the_storage_finds_all_of_it(
    site: Site, era: str
) -> None:
    waiting, at_the_end = await everything_said(site, era, None, uuid4().hex)
    assert "argument" in waiting
    assert at_the_end == SAID | {"answer"}  # keys and items are hashes in any case


async def test_a_replica_reads_what_another_one_has_encrypted(site: Site) -> None:
    encryption, word = Encryption((new_key(),)), uuid4().hex
    first, second = await site.serve(encryption), await site.serve(encryption)
    await site.work(encryption)
    told = (await called(await connect(first, "2026"), "tell", word)).rest()
    assert text_of((await told)[-1]) == f"result-{word}"
    again = (await called(await connect(second, "2026"), "tell", word)).rest()
    assert text_of((await again)[-1]) == f"result-{word}"


def test_the_keys_are_in_no_text_of_the_settings() -> None:
    key = new_key()
    assert key not in repr(Settings(encryption=Encryption((key,))))

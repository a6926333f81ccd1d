"""A session of 2025 is its caller's, and each of its requests may do what its own token may."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import Context
from tests.auth.callers import Known2025, policy, poor, rich
from tests.auth.issuer import Issuer, issuing
from tests.kit.auth import bearer
from tests.kit.peers import served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway.clock import Clock

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

ASKS: dict[str, Any] = {"elicitation": {}}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


def guarded_tools() -> GatedTools:
    tools = GatedTools("wait", "ask")

    @tools.mcp.tool()
    async def shout(ctx: Context[Any, Any]) -> str:
        # Without the id of its request: for the session's own stream.
        await ctx.session.send_log_message("error", "a secret")
        await ctx.session.send_tool_list_changed()
        await tools.gate.wait()
        return "shouted"

    assert shout
    return tools


class Callers:
    """One session of alice, used with a token that has the scope and with one that has not.

    Where there are two processes, `poor` and `other` use one, and `rich` the other one.
    """

    def __init__(self, tools: GatedTools, rich: Known2025, other: Known2025, token: str) -> None:
        self.tools, self.rich, self.other = tools, rich, other
        self.poor = other.with_token(token)


@asynccontextmanager
async def callers(
    issuer: Issuer, tmp_path: Path, *, elsewhere: bool = False
) -> AsyncGenerator[Callers]:
    """`elsewhere`: there are two processes."""
    tools = guarded_tools()
    auth = policy(issuer, wait=("net",), ask=("net",), shout=("net",))
    token = bearer(rich(issuer))
    options: dict[str, Any] = {"auth": auth}
    if elsewhere:
        options |= {"journal": f"sqlite:///{tmp_path}/journal.db", "clock": Clock()}
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(served(tools.mcp, **options))
        known = await Known2025.open(wire, capabilities=ASKS, extra=token)
        if elsewhere:
            wire = await stack.enter_async_context(served(guarded_tools().mcp, **options))
        other = Known2025(wire, known.version, known.id, token)
        yield Callers(tools, Known2025(known.wire, known.version, known.id, token), other,
                      poor(issuer))  # fmt: skip


PLACES = pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])


def cancel_of(identity: int) -> dict[str, Any]:
    params = {"requestId": identity, "reason": "enough"}
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}


async def test_a_call_is_not_cancelled_without_its_scope(issuer: Issuer, tmp_path: Path) -> None:
    async with callers(issuer, tmp_path) as alice:
        calling = await alice.rich.send(alice.rich.call_message("wait", id=7))
        await until(lambda: alice.tools.runs == 1)
        refused = await alice.poor.post(cancel_of(7))
        assert refused.status == 403
        assert 'scope="mcp net"' in refused.headers["www-authenticate"]
        unknown = await alice.poor.post(cancel_of(8))
        assert unknown.status == 202
        assert alice.tools.stopped == 0
        await alice.rich.notify("notifications/cancelled", cancel_of(7)["params"])
        await until(lambda: alice.tools.stopped == 1)
        assert calling


async def test_a_call_of_another_process_is_not_cancelled_without_its_scope(
    issuer: Issuer, tmp_path: Path
) -> None:
    async with callers(issuer, tmp_path, elsewhere=True) as alice:
        for identity in (7, 8):
            await alice.rich.send(alice.rich.call_message("wait", id=identity))
        await until(lambda: alice.tools.runs == 2)
        # Notices come in order: when the second one has stopped its call, the first one was read.
        assert (await alice.poor.post(cancel_of(7))).status == 202
        assert (await alice.other.post(cancel_of(8))).status == 202
        await until(lambda: alice.tools.stopped >= 1)
        assert alice.tools.stopped == 1
        alice.tools.gate.open()
        await until(lambda: alice.tools.ended == 2)
        assert alice.tools.stopped == 1


@PLACES
async def test_a_question_is_not_answered_without_the_scope_of_its_call(
    elsewhere: bool, issuer: Issuer, tmp_path: Path
) -> None:
    async with callers(issuer, tmp_path, elsewhere=elsewhere) as alice:
        answer = await alice.rich.call("ask")
        question = await answer.message()
        assert question["method"] == "elicitation/create"
        said = {"action": "accept", "content": {"name": "mallory"}}
        refused = await alice.poor.reply(question, said)
        assert refused.status == 400
        assert b"No question" in await refused.body()
        taken = await alice.rich.reply(question, {"action": "accept", "content": {"name": "Ada"}})
        assert taken.status == 202
        assert text_of((await answer.rest())[-1]) == "Hello Ada"


@PLACES
async def test_a_sessions_stream_has_nothing_of_calls_that_its_token_may_not_make(
    elsewhere: bool, issuer: Issuer, tmp_path: Path
) -> None:
    async with callers(issuer, tmp_path, elsewhere=elsewhere) as alice:
        better = await alice.rich.get()
        own = await alice.poor.get()  # the newer one is sent what there is, and the other one waits
        if elsewhere:
            answers = alice.rich.wire.app.transport.responses
            await until(lambda: answers._elsewhere, "the other process has not heard of it")
        call = {"name": "wait", "arguments": {}, "task": {"ttl": 60_000}}
        await (await alice.rich.request("tools/call", call, token="t")).outcome()
        await until(lambda: alice.tools.runs == 1)
        calling = await alice.rich.send(alice.rich.call_message("shout"))
        # That a list has changed is for every token, and the last thing that was said.
        told = await own.message()
        assert told["method"] == "notifications/tools/list_changed"
        own.cut()
        seen = [await better.message(), await better.message()]
        methods = {each["method"] for each in seen}
        assert methods == {"notifications/progress", "notifications/message"}
        assert "a secret" in json.dumps(seen)
        alice.tools.gate.open()
        assert calling

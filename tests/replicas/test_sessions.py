"""2025 clients behind a load balancer that knows nothing of sessions."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mcp.server.subscriptions import PromptsListChanged, ResourceUpdated, ToolsListChanged
from tests.kit.fleet import Fleet, fleet_of
from tests.kit.http import Answer
from tests.kit.peers import VERSIONS, Session, progress_of, text_of
from tests.kit.waits import PATIENCE, until, within
from tests.replicas.tools import replica_tools

from headway import Settings
from headway.errors import JournalError, JournalUnavailable
from headway.journal.sqlite.store import SqliteStore
from headway.journal.store import Write
from headway.settings import Retention
from headway.transport import messages_2025

pytestmark = pytest.mark.anyio

ELICITS = {"elicitation": {}}


async def read(answer: Answer, count: int) -> list[dict[str, Any]]:
    return [await answer.message() for _ in range(count)]


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_request_of_a_session_may_go_to_another_replica(
    journal: str, version: str
) -> None:
    some = replica_tools(3)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet.wire, version)
        for _ in range(6):
            assert (await session.request("ping")).status == 200
            assert text_of(await (await session.call("quick")).outcome()) == "at once"
        some[0].gate.let_pass(3)
        answers = [await session.call("step", {"steps": 1}, token=n) for n in range(3)]
        for answer in answers:
            assert progress_of(await answer.rest()) == [1]
        assert [tools.runs for tools in some] == [1, 1, 1]


async def test_a_session_that_one_replica_closes_is_unknown_to_all_at_once(journal: str) -> None:
    some = replica_tools(3)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet.wire)
        for _ in range(3):  # all know it
            assert (await session.request("ping")).status == 200
        session.wire = fleet[0]
        running = await session.call("step", {"steps": 1}, id="w", token="t")
        await running.frame()
        own = await session.get()
        await own.frame()
        session.wire = fleet[1]
        assert (await session.delete()).status == 200
        for replica in fleet.replicas:
            session.wire = replica
            assert (await session.request("ping")).status == 404
        assert (await running.rest())[-1]["error"]["code"] == -32800
        await until(lambda: some[0].ended)
        assert await own.rest() == []


@pytest.mark.parametrize("answer", ["accept", "decline", "error"])
async def test_an_answer_finds_the_replica_that_asked(journal: str, answer: str) -> None:
    async with fleet_of([tools.mcp for tools in replica_tools(2)], journal) as fleet:
        session = await Session.open(fleet.wire, capabilities=ELICITS)
        session.wire = fleet[0]
        asking = await session.call("ask", id="g", token="t")
        question = await asking.message()
        session.wire = fleet[1]
        if answer == "error":
            error = {"code": -32000, "message": "nobody is there"}
            said = await session.post({"jsonrpc": "2.0", "id": question["id"], "error": error})
        else:
            result: dict[str, object] = {"action": answer}
            if answer == "accept":
                result["content"] = {"name": "Ada"}
            said = await session.reply(question, result)
        assert said.status == 202
        outcome = (await asking.rest())[-1]
        expected = {"accept": "Hello Ada", "decline": "decline", "error": "nobody is there"}
        assert expected[answer] in str(outcome)


async def test_an_answer_to_nobodys_question_is_refused_everywhere(
    journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_of([tools.mcp for tools in replica_tools(2)], journal) as fleet:
        session = await Session.open(fleet.wire, capabilities=ELICITS)
        stranger = await Session.open(fleet.wire, capabilities=ELICITS)
        session.wire = fleet[0]
        asking = await session.call("ask", id="g", token="t")
        question = await asking.message()
        with monkeypatch.context() as soon:
            soon.setattr(messages_2025, "CATCH_UP_TIMEOUT", 0.1)
            for replica in fleet.replicas:
                stranger.wire = replica
                for identity in ("x", f"{'A' * 40}.1", "get.x.y"):
                    refused = await stranger.reply({"id": identity}, {"action": "accept"})
                    assert refused.status == 400, identity
                # Taken or refused, it is not heard: it is another session's question.
                await stranger.reply(question, {"action": "accept", "content": {"name": "Eve"}})
        session.wire = fleet[1]
        assert (await session.reply(question, {"action": "decline"})).status == 202
        assert text_of((await asking.rest())[-1]) == "decline"


async def test_a_question_outside_of_any_request_is_asked_and_answered_on_other_replicas(
    journal: str,
) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        inside = fleet[0].app.life.sessions.known[session.id]
        asked = asyncio.create_task(inside.ask_client("roots/list", None, None))
        session.wire = fleet[1]
        own = await session.get()
        question = await own.message()
        assert question["method"] == "roots/list"
        own.cut()
        assert (await session.reply(question, {"roots": []})).status == 202
        assert await within(asked) == {"roots": []}


async def test_a_cancel_finds_the_replica_that_executes(journal: str) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet.wire)
        stranger = await Session.open(fleet[1])
        session.wire = fleet[0]
        running = await session.call("step", {"steps": 1}, id="w", token="t")
        await running.frame()
        session.wire = fleet[1]
        await stranger.notify("notifications/cancelled", {"requestId": "w"})
        await session.notify("notifications/cancelled", {"requestId": "no such"})
        await session.notify("notifications/cancelled", {"requestId": "w", "reason": "enough"})
        end = (await running.rest())[-1]
        assert (end["id"], end["error"]["code"]) == ("w", -32800)
        assert "enough" in end["error"]["message"]
        await until(lambda: some[0].ended)


async def test_a_log_level_counts_on_all_replicas_and_for_what_runs(journal: str) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        running = await session.call("chat", token="t")
        some[0].gate.let_pass()
        first = await read(running, 2)
        session.wire = fleet[1]
        answer = await session.request("logging/setLevel", {"level": "error"})
        assert (await answer.json())["result"] == {}
        inside = fleet[0].app.life.sessions.known[session.id]
        await until(lambda: inside.facts.level_rank > 0)
        some[0].gate.let_pass()
        rest = [m["params"]["data"] for m in (await running.rest())[:-1]]
        assert ([m["params"]["data"] for m in first], rest) == (["detail", "news"], ["news"])


async def test_changes_published_on_one_replica_are_heard_on_the_get_stream_of_another(
    journal: str,
) -> None:
    some = replica_tools(3)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        session.wire = fleet[1]
        own = await session.get()
        session.wire = fleet[2]
        changes = fleet[2].app.life.sessions.broadcasts.changes
        before = changes.last
        await some[2].bus.publish(ResourceUpdated("x://1"))  # nobody subscribed yet
        await until(lambda: changes.last > before)  # it is told behind the publisher's back
        answer = await session.request("resources/subscribe", {"uri": "x://1"})
        assert (await answer.json())["result"] == {}
        await some[0].bus.publish(ResourceUpdated("x://1"))
        await some[0].bus.publish(ResourceUpdated("x://other"))
        await some[2].bus.publish(ToolsListChanged())
        heard = await read(own, 2)
        assert sorted(m["method"] for m in heard) == [
            "notifications/resources/updated", "notifications/tools/list_changed",
        ]  # fmt: skip
        own.cut()
        await some[1].bus.publish(ToolsListChanged())
        session.wire = fleet[0]
        again = await session.get(own.ids[-1])
        await some[2].bus.publish(ResourceUpdated("x://1"))
        rest = [m["method"] for m in await read(again, 2)]
        assert sorted(rest) == [
            "notifications/resources/updated", "notifications/tools/list_changed",
        ]  # fmt: skip


async def test_a_notification_is_not_repeated_by_a_replica_that_is_behind(
    journal: str,
) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        own = await session.get()
        session.wire = fleet[1]
        assert (await session.request("ping")).status == 200
        behind = fleet[1].app.life.sessions.broadcasts.changes
        await behind.close()
        await some[0].bus.publish(ToolsListChanged())
        await read(own, 1)
        own.cut()
        again = await session.get(own.ids[-1])
        behind._task = asyncio.create_task(behind._read_entries())
        await some[0].bus.publish(PromptsListChanged())
        (heard,) = await read(again, 1)
        assert heard["method"] == "notifications/prompts/list_changed"


async def test_a_resume_while_the_journal_is_away_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = replica_tools(2)
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        running = await session.call("step", {"steps": 2}, token="t")
        some[0].gate.let_pass()
        await running.message()
        running.cut()
        session.wire = fleet[1]
        assert (await session.request("ping")).status == 200

        async def fail(*_: object) -> NoReturn:
            raise JournalUnavailable("the disk is away")

        with monkeypatch.context() as away:
            away.setattr(SqliteStore, "head", fail)
            refused = await session.get(running.ids[-1])
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert "try again" in (await refused.json())["error"]["message"]
        again = await session.get(running.ids[-1])
        some[0].gate.let_pass()
        assert (await again.rest())[-1]["id"] == 1


async def test_a_get_without_an_id_goes_on_where_another_replica_stopped(journal: str) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        await session.request("resources/subscribe", {"uri": "x://1"})
        own = await session.get()
        await some[0].bus.publish(ToolsListChanged())
        await read(own, 1)
        own.cut()
        journals = fleet[1].app.journal
        stream = fleet[0].app.life.sessions.known[session.id].stream
        async with asyncio.timeout(PATIENCE):
            async for entry in journals.follow(stream):
                if type(entry.event).__name__ == "StreamPositionSent":
                    break
        await some[0].bus.publish(ResourceUpdated("x://1"))
        session.wire = fleet[1]
        again = await session.get()
        assert (await again.message())["params"] == {"uri": "x://1"}


async def all_informed(fleet: Fleet) -> None:
    """Return when each replica has read what the others have told so far."""
    notices = [replica.app.life.sessions.broadcasts.notices for replica in fleet.replicas]
    head = await fleet[0].app.journal.head(notices[0].name)
    assert head is not None
    await until(lambda: all(one.last >= head.last for one in notices))


async def test_a_newer_reader_on_another_replica_takes_over(journal: str) -> None:
    """2025: a message is sent on one stream only."""
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        first = await session.call("step", {"steps": 2}, token="t")
        some[0].gate.let_pass()
        assert progress_of(await read(first, 1)) == [1]
        own = await session.get()
        await own.frame()
        session.wire = fleet[1]
        second = await session.get(first.ids[-1])
        newer = await session.get()
        await all_informed(fleet)
        assert await first.rest() == []
        some[0].gate.let_pass()
        assert progress_of(await second.rest()) == [2]
        await some[0].bus.publish(ToolsListChanged())
        assert (await newer.message())["method"] == "notifications/tools/list_changed"
        again = await session.get(own.ids[-1])  # the same stream, here: its reader there ends
        assert await own.rest() == []
        await some[0].bus.publish(ToolsListChanged())
        assert (await again.message())["method"] == "notifications/tools/list_changed"


async def test_a_call_that_is_cut_again_and_again_is_resumed_on_the_next_replica(
    journal: str,
) -> None:
    """Scenarios 1 and 2 of what users suffer from."""
    some = replica_tools(3)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet.wire)
        answer = await session.call("step", {"steps": 100}, id="w", token="t")
        seen: list[float] = []
        while len(seen) < 100:
            some[0].gate.let_pass(20)
            messages = await read(answer, 20)
            seen += progress_of(messages)
            if len(seen) < 100:
                for _ in range(2):  # the second time with nothing in between
                    answer.cut()
                    answer = await session.get(answer.ids[-1])
                    primed = await answer.frame()
                    assert primed is not None
        end = (await answer.rest())[-1]
        assert seen == list(range(1, 101))
        assert (end["id"], text_of(end)) == ("w", "run 1")
        assert sum(tools.runs for tools in some) == 1


async def test_a_stream_is_found_that_the_replica_before_has_not_stored_yet(journal: str) -> None:
    """A client is as quick as its connection is short: it comes back before the storage knows."""
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        store = fleet[0].app.journal._store
        assert store is not None
        write, go = store.write, asyncio.Event()

        async def later(writes: Sequence[Write]) -> dict[str, JournalError]:
            await go.wait()
            return await write(writes)

        store.write = later
        answer = await session.call("step", {"steps": 2}, id="w", token="t")
        await answer.frame()
        answer.cut()
        session.wire = fleet[1]
        resuming = asyncio.create_task(session.get(answer.ids[-1]))
        await asyncio.wait([resuming], timeout=0.2)
        is_waited_for = not resuming.done()
        go.set()
        assert is_waited_for
        some[0].gate.let_pass(2)
        messages = await (await within(resuming)).rest()
        assert (progress_of(messages), text_of(messages[-1])) == ([1, 2], "run 1")


async def test_a_session_outlives_all_replicas(journal: str) -> None:
    """Scenario 20: with a shared store the next call succeeds, without one it is a proper 404."""
    async with fleet_of([tools.mcp for tools in replica_tools(2)], journal) as fleet:
        session = await Session.open(fleet.wire)
        await session.request("logging/setLevel", {"level": "error"})
    async with fleet_of([tools.mcp for tools in replica_tools(2)], journal) as fleet:
        session.wire = fleet.wire
        for _ in range(2):
            assert text_of(await (await session.call("quick")).outcome()) == "at once"
        assert fleet[0].app.life.sessions.known[session.id].facts.level_rank > 0
    async with fleet_of([tools.mcp for tools in replica_tools(1)], "memory:") as fleet:
        session.wire = fleet.wire
        assert (await session.call("quick")).status == 404


async def test_a_session_that_says_much_is_still_taken_up(journal: str) -> None:
    """The oldest entries of a long stream are dropped, what it says of the session is not."""
    settings = Settings(retention=Retention(stream_entries=40))
    async with fleet_of([tools.mcp for tools in replica_tools(2)], journal, settings) as fleet:
        session = await Session.open(fleet[0])
        await session.request("resources/subscribe", {"uri": "x://1"})
        for level in ["debug", "error"] * 60:
            await session.request("logging/setLevel", {"level": level})
        stream = fleet[0].app.life.sessions.known[session.id].stream
        head = await fleet[0].app.journal.head(stream)
        assert head is not None
        assert head.first > 1
        session.wire = fleet[1]
        assert text_of(await (await session.call("quick")).outcome()) == "at once"
        taken_up = fleet[1].app.life.sessions.known[session.id]
        assert (taken_up.facts.level_rank > 0, list(taken_up.facts.subscriptions)) == (
            True,
            ["x://1"],
        )


async def test_who_repeats_a_call_hears_its_result_when_only_its_own_replica_stops(
    journal: str,
) -> None:
    some, settings = replica_tools(2), Settings(progress_rate=0, lease=1.0)
    async with fleet_of([tools.mcp for tools in some], journal, settings) as fleet:
        session = await Session.open(fleet[0])
        first = await session.post(_with_key(session, "a"))
        session.wire = fleet[1]
        second = await session.post(_with_key(session, "b"))
        some[0].gate.let_pass()
        heard = await read(second, 1)
        draining = asyncio.create_task(fleet[1].app.drain())
        await until(lambda: fleet[1].app.engine.services.lifecycle.is_draining)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        heard += await second.rest()
        assert all("id" not in message for message in heard), "it was told an end"
        await fleet[1].app.engine.stop()  # its process is gone
        session.wire = fleet[0]
        again = await session.get(second.ids[-1])
        some[0].gate.let_pass(2)
        ends = [(await answer.rest())[-1] for answer in (first, again)]
        assert [text_of(end) for end in ends] == ["run 1", "run 1"]
        assert [tools.runs for tools in some] == [1, 0]


def _with_key(session: Session, name: str) -> dict[str, Any]:
    """A call of three steps with one key, asked under different ids."""
    message = session.message("tools/call", {"name": "step", "arguments": {"steps": 3}}, id=name)
    meta = {"headway/idempotency-key": "one", "progressToken": name}
    return {**message, "params": {**message["params"], "_meta": meta}}

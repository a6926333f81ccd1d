"""Every client at every kind of served object: what a call says while it lasts, and its end."""

import asyncio
from typing import Any

import anyio
import pytest
from tests.interop.houses import House
from tests.interop.peers import PINNED, Ears, Outcome, PeerKind, connected
from tests.interop.witness import COMPLAINT, LEVELS, NOTE, OTHER, QUESTION, TOOLS
from tests.kit.waits import PATIENCE

pytestmark = [
    pytest.mark.anyio,
    # The SDK warns of logging, which 2026-07-28 deprecates and both eras still have.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


async def test_the_client_finds_its_era_and_the_tools(house: House, peer: PeerKind) -> None:
    async with connected(peer, house.url) as client:
        assert client.version == peer.version
        assert {tool.name for tool in await client.tools()} == TOOLS


async def test_a_call_is_answered(house: House, peer: PeerKind) -> None:
    said = "häuser \u2028 and \x85 a line\nend 🚀"
    async with connected(peer, house.url) as client:
        assert await client.call("echo", {"text": said}) == Outcome(said)


@pytest.mark.parametrize("pinned", PINNED, ids=str)
async def test_a_client_that_asks_nothing_first_gets_along_too(
    house: House, pinned: PeerKind, ears: Ears
) -> None:
    async with connected(pinned, house.url, ears) as client:
        assert client.version == pinned.version
        outcome = await client.call("count", {"total": 2}, ears.on_progress)
        assert outcome == Outcome("counted to 2")
        assert await client.call("ask") == Outcome("hello Ada")
        assert {tool.name for tool in await client.tools()} == TOOLS
        await ears.until(lambda: ears.progress[-1:] != [] and ears.progress[-1][0] == 2)


async def test_resources_and_prompts(house: House, peer: PeerKind) -> None:
    async with connected(peer, house.url) as client:
        assert {str(resource.uri) for resource in await client.resources()} == {NOTE, OTHER}
        assert [content.text for content in await client.read(NOTE)] == ["a note"]
        assert [prompt.name for prompt in await client.prompts()] == ["greet"]
        (message,) = (await client.prompt("greet", {"name": "Ada"})).messages
        assert message.content.text == "Greet Ada."  # pyright: ignore[reportAttributeAccessIssue]


async def test_progress_grows_to_its_total_and_says_what_is_done(
    house: House, peer: PeerKind, ears: Ears
) -> None:
    async with connected(peer, house.url, ears) as client:
        outcome = await client.call("count", {"total": 5}, ears.on_progress)
        await ears.until(lambda: bool(ears.progress) and ears.progress[-1][0] == 5)
    assert outcome == Outcome("counted to 5")
    values = [value for value, _, _ in ears.progress]
    assert values == sorted(set(values))
    assert {total for _, total, _ in ears.progress} == {5}
    messages = [message for _, _, message in ears.progress]
    assert [f"step {step} of 5" for step in range(1, 6)] == messages[:5]


async def test_a_call_without_a_progress_callback_hears_none(house: House, peer: PeerKind) -> None:
    if peer.client == "fastmcp":
        pytest.skip("the FastMCP client asks for progress in every call (a default handler)")
    async with connected(peer, house.url) as client:
        assert await client.call("count", {"total": 5}) == Outcome("counted to 5")
    assert b"counted to 5" in house.tap.heard
    assert b"notifications/progress" not in house.tap.heard


async def test_logs_come_unasked_only_where_the_era_sends_them(
    house: House, peer: PeerKind, ears: Ears
) -> None:
    # The FastMCP client opts in to everything with each 2026 request.
    expected = LEVELS if peer.is_2025 or peer.client == "fastmcp" else ()
    async with connected(peer, house.url, ears) as client:
        assert await client.call("chatter") == Outcome("said it")
        await ears.until(lambda: len(ears.logs) == len(expected))
    assert ears.logs == [(level, f"this is {level}") for level in expected]
    assert house.tap.heard.count(b"notifications/message") == len(expected)


async def test_logs_below_the_wanted_level_are_kept_back(
    house: House, peer: PeerKind, ears: Ears
) -> None:
    async with connected(peer, house.url, ears) as client:
        await client.want_logs("warning")
        assert await client.call("chatter") == Outcome("said it")
        await ears.until(lambda: len(ears.logs) == 2)
    assert ears.logs == [("warning", "this is warning"), ("error", "this is error")]
    assert house.tap.heard.count(b"notifications/message") == 2


async def test_a_question_is_answered_in_the_way_of_the_era(
    house: House, peer: PeerKind, ears: Ears
) -> None:
    async with connected(peer, house.url, ears) as client:
        assert await client.call("ask") == Outcome("hello Ada")
    assert ears.questions == [QUESTION]


async def test_a_question_may_be_declined(house: House, peer: PeerKind, ears: Ears) -> None:
    ears.answer = None
    async with connected(peer, house.url, ears) as client:
        outcome = await client.call("ask")
    assert ears.questions == [QUESTION]
    # A result or an error: that is the framework's way.
    assert "declin" in outcome.text.lower()


async def test_a_tool_asks_in_the_middle_of_its_work(
    house: House, peer: PeerKind, ears: Ears
) -> None:
    """`ctx.elicit`: a request of the server, which 2026-07-28 has none of."""
    async with connected(peer, house.url, ears) as client:
        outcome = await client.call("confirm")
        if peer.is_2025:
            assert (outcome, ears.questions) == (Outcome("hello Ada"), [QUESTION])
        else:
            assert (outcome.is_error, ears.questions) == (True, [])
        assert await client.call("echo", {"text": "on"}) == Outcome("on")


async def test_an_abandoned_call_is_cancelled_and_the_session_goes_on(
    house: House, peer: PeerKind, key: str
) -> None:
    async with connected(peer, house.url) as client:
        async with anyio.create_task_group() as calls:
            calls.start_soon(client.call, "hang", {"key": key})
            await house.witness.started(key)
            calls.cancel_scope.cancel()
        await house.witness.cancelled(key)
        assert await client.call("echo", {"text": "still here"}) == Outcome("still here")
    assert house.witness.runs[key] == 1


async def test_a_client_may_leave_with_a_call_under_way(
    house: House, peer: PeerKind, key: str
) -> None:
    async with connected(peer, house.url) as client:
        call = asyncio.create_task(client.call("hang", {"key": key}))
        await house.witness.started(key)
    with anyio.fail_after(PATIENCE):
        await house.witness.cancelled(key)
        # How it tells its caller is the client's way; that it does is what counts.
        await asyncio.wait([call])
    assert call.exception() or call.result().is_error


async def test_what_a_tool_raises_is_an_error_that_says_why(house: House, peer: PeerKind) -> None:
    async with connected(peer, house.url) as client:
        outcome = await client.call("fail")
        assert outcome.is_error
        assert COMPLAINT in outcome.text
        assert await client.call("echo", {"text": "on"}) == Outcome("on")


async def test_a_tool_that_is_not_there_is_an_error_that_names_it(
    house: House, peer: PeerKind
) -> None:
    async with connected(peer, house.url) as client:
        outcome = await client.call("juggle")
        assert outcome.is_error
        assert "juggle" in outcome.text


async def test_calls_at_once_do_not_mix_and_one_that_hangs_holds_none_up(
    house: House, peer: PeerKind, key: str
) -> None:
    heard = [Ears() for _ in range(4)]
    outcomes: dict[int, Outcome] = {}

    async def count(client: Any, place: int) -> None:
        total = place + 3
        outcomes[place] = await client.call("count", {"total": total}, heard[place].on_progress)
        await heard[place].until(lambda: heard[place].progress[-1:] != [])

    async with connected(peer, house.url) as client, anyio.create_task_group() as hanging:
        hanging.start_soon(client.call, "hang", {"key": key})
        await house.witness.started(key)
        async with anyio.create_task_group() as calls:
            for place in range(len(heard)):
                calls.start_soon(count, client, place)
        hanging.cancel_scope.cancel()
    assert outcomes == {place: Outcome(f"counted to {place + 3}") for place in range(len(heard))}
    for place, ears in enumerate(heard):
        assert {total for _, total, _ in ears.progress} == {place + 3}

"""Cut connections: what the clients' own reconnection gets back, the tool having run once.

The clients do all of it by themselves; a TCP proxy between them and the server cuts.
"""

from collections.abc import AsyncGenerator

import anyio
import mcp_types as types
import pytest
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import ClientMessageMetadata
from tests.interop.houses import PUBLISHING, House, Street
from tests.interop.peers import (
    FASTMCP,
    OFFICIAL,
    Ears,
    OfficialPeer,
    Outcome,
    Peer,
    PeerKind,
    connected,
)
from tests.interop.witness import NOTE, QUESTION, STAGES
from tests.kit.waits import PATIENCE

from headway.testing import Cut, Proxy

pytestmark = [
    pytest.mark.anyio,
    # `resources/subscribe` is deprecated as of 2026-07-28; 2025 has nothing else.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

RESUMING = pytest.mark.parametrize("peer", [OFFICIAL[0], FASTMCP[0]], ids=str)
AGAIN = "last-event-id"
PRIMING = b"retry: 10\ndata: \n\n"
"""What each stream begins with at 2025-11-25, behind an id: one to come back with."""
DONE = Outcome(f"all {STAGES} stages")
EVERY_STAGE = [(stage, STAGES, f"stage {stage} of {STAGES}") for stage in range(1, STAGES + 1)]


@pytest.fixture
async def proxy(house: House) -> AsyncGenerator[Proxy]:
    async with Proxy(house.url) as proxy:
        yield proxy


class Staged:
    """A call of `stages` that is under way."""

    def __init__(self, client: Peer, key: str, ears: Ears) -> None:
        self._client = client
        self._key = key
        self._ears = ears
        self.outcome: Outcome | None = None

    async def __call__(self) -> None:
        self.outcome = await self._client.call("stages", {"key": self._key}, self._ears.on_progress)


@RESUMING
async def test_a_call_cut_in_its_middle_gets_exactly_the_rest(
    house: House, peer: PeerKind, ears: Ears, key: str, proxy: Proxy
) -> None:
    async with connected(peer, proxy.url, ears) as client:
        call = Staged(client, key, ears)
        async with anyio.create_task_group() as calls:
            proxy.plan(Cut(text=b"stage 3 of 6"))
            calls.start_soon(call)
            await proxy.was_cut()
            await proxy.until(lambda: proxy.values_of(AGAIN))
            house.witness.open_gate(key)
        await ears.until(lambda: len(ears.progress) == STAGES)
    assert (call.outcome, ears.progress) == (DONE, EVERY_STAGE)
    assert house.witness.runs[key] == 1


@RESUMING
async def test_a_second_cut_with_nothing_in_between_loses_nothing_either(
    house: House, peer: PeerKind, ears: Ears, key: str, proxy: Proxy
) -> None:
    async with connected(peer, proxy.url, ears) as client:
        await proxy.until(
            lambda: PRIMING in proxy.told
        )  # on the session's own stream, which is not meant here
        call = Staged(client, key, ears)
        async with anyio.create_task_group() as calls:
            # All that the second connection brings is its priming event.
            proxy.plan(Cut(text=b"stage 3 of 6"), Cut(text=PRIMING))
            calls.start_soon(call)
            await proxy.was_cut(2)
            await proxy.until(lambda: len(proxy.values_of(AGAIN)) == 2)
            house.witness.open_gate(key)
        await ears.until(lambda: len(ears.progress) == STAGES)
    first, second = proxy.values_of(AGAIN)
    assert first == second
    assert (call.outcome, ears.progress) == (DONE, EVERY_STAGE)
    assert house.witness.runs[key] == 1


@RESUMING
async def test_a_second_cut_after_more_progress_loses_nothing_either(
    house: House, peer: PeerKind, ears: Ears, key: str, proxy: Proxy
) -> None:
    house.witness.open_gate(key)
    async with connected(peer, proxy.url, ears) as client:
        proxy.plan(Cut(text=b"stage 3 of 6"), Cut(text=b"stage 5 of 6"))
        call = Staged(client, key, ears)
        await call()
        await ears.until(lambda: EVERY_STAGE[-1] in ears.progress)
    assert (call.outcome, proxy.counts.cuts, house.witness.runs[key]) == (DONE, 2, 1)
    # The official transport names the id of the first cut again, and is told again what it has.
    assert list(dict.fromkeys(ears.progress)) == EVERY_STAGE


@RESUMING
@pytest.mark.parametrize("plus", [0, 1, 60, 200, 900, 1200])
async def test_wherever_the_cut_falls_nothing_is_lost_and_nothing_comes_twice(
    street: Street, peer: PeerKind, ears: Ears, key: str, plus: int
) -> None:
    house = await street.house("MCPServer")
    house.witness.open_gate(key)
    async with (
        Proxy(house.url) as proxy,
        connected(peer, proxy.url, ears) as client,
    ):
        await proxy.until(
            lambda: PRIMING in proxy.told
        )  # on the session's own stream, which is not meant here
        # From the priming event on: before it, a client has no id to come back with.
        proxy.plan(Cut(text=PRIMING, plus=plus))
        call = Staged(client, key, ears)
        await call()
        await ears.until(lambda: len(ears.progress) == STAGES)
    assert proxy.counts.cuts == 1
    assert (call.outcome, ears.progress) == (DONE, EVERY_STAGE)
    assert house.witness.runs[key] == 1


@RESUMING
async def test_a_result_that_was_lost_on_the_wire_is_sent_again(
    house: House, peer: PeerKind, ears: Ears, key: str, proxy: Proxy
) -> None:
    house.witness.open_gate(key)
    async with connected(peer, proxy.url, ears) as client:
        proxy.plan(Cut(text=b'"result":'))
        call = Staged(client, key, ears)
        await call()
    assert (proxy.counts.cuts, len(proxy.values_of(AGAIN)), call.outcome) == (1, 1, DONE)
    assert house.witness.runs[key] == 1


@RESUMING
async def test_a_question_that_was_lost_on_the_wire_is_asked_again(
    house: House, peer: PeerKind, ears: Ears, proxy: Proxy
) -> None:
    async with connected(peer, proxy.url, ears) as client:
        proxy.plan(Cut(text=b"elicitation/create"))
        # Without progress the answer is no stream until the tool asks: cut behind an id.
        outcome = await client.call("confirm", {}, ears.on_progress)
    assert (outcome, ears.questions) == (Outcome("hello Ada"), [QUESTION])


@RESUMING
async def test_the_server_may_end_a_stream_and_the_client_comes_back(
    house: House, peer: PeerKind, ears: Ears, key: str, proxy: Proxy
) -> None:
    """SEP-1699: `close_sse_stream`, as tools use it that do not want to hold a connection."""
    outcomes: list[Outcome] = []

    async def step_out(client: Peer) -> None:
        outcomes.append(await client.call("step_out", {"key": key}, ears.on_progress))

    async with connected(peer, proxy.url, ears) as client:
        async with anyio.create_task_group() as calls:
            calls.start_soon(step_out, client)
            await proxy.until(lambda: proxy.values_of(AGAIN))
            house.witness.open_gate(key)
        await ears.until(lambda: len(ears.progress) == 2)
    assert outcomes == [Outcome("back again")]
    assert ears.progress == [(1, 2, "before"), (2, 2, "after")]


@RESUMING
async def test_when_all_connections_are_cut_the_session_goes_on(
    house: House, peer: PeerKind, ears: Ears, key: str, proxy: Proxy
) -> None:
    async with connected(peer, proxy.url, ears) as client:
        call = Staged(client, key, ears)
        async with anyio.create_task_group() as calls:
            calls.start_soon(call)
            await ears.until(lambda: len(ears.progress) == STAGES // 2)
            proxy.cut()
            await proxy.until(lambda: proxy.values_of(AGAIN))
            house.witness.open_gate(key)
        assert (call.outcome, house.witness.runs[key]) == (DONE, 1)
        assert await client.call("echo", {"text": "on"}) == Outcome("on")


async def test_what_changed_while_the_get_stream_was_cut_is_told(
    house: House, ears: Ears, proxy: Proxy
) -> None:
    async with connected(OFFICIAL[0], proxy.url, ears) as client:
        assert isinstance(client, OfficialPeer)
        if house.kind in PUBLISHING:
            await client.client.subscribe_resource(NOTE)
        await client.call("touch", {"uri": NOTE})
        await ears.until(lambda: len(ears.updates) == 1)
        proxy.cut()
        await client.call("touch", {"uri": NOTE})
        await ears.until(lambda: len(ears.updates) == 2)
    assert ears.updates == [NOTE, NOTE]


@pytest.mark.requirement("http.cut.cancels", "cancel.silent", era="2026")
@pytest.mark.parametrize("peer", [OFFICIAL[1], FASTMCP[1]], ids=str)
async def test_at_2026_a_cut_is_a_cancel(
    house: House, peer: PeerKind, ears: Ears, key: str, proxy: Proxy
) -> None:
    async with connected(peer, proxy.url, ears) as client:
        proxy.plan(Cut(text=b"stage 3 of 6"))
        call = Staged(client, key, ears)
        await call()
        await house.witness.cancelled(key)
        assert call.outcome is not None
        assert call.outcome.is_error
        assert await client.call("echo", {"text": "on"}) == Outcome("on")
    assert (ears.progress, proxy.values_of(AGAIN)) == (EVERY_STAGE[:2], [])


@pytest.mark.requirement("cancel.races", era="2026")
async def test_at_2026_a_cut_before_the_first_byte_is_a_cancel_too(
    house: House, key: str, proxy: Proxy
) -> None:

    async def lose() -> None:
        async with connected(OFFICIAL[1], proxy.url) as client:
            await client.call("hang", {"key": key})

    async def cut() -> None:
        with anyio.fail_after(PATIENCE):
            await house.witness.started(key)
            proxy.cut()
            await house.witness.cancelled(key)

    async with anyio.create_task_group() as cutting:
        cutting.start_soon(cut)
        # The official client does not survive a POST that fails before it is answered.
        with pytest.raises(ExceptionGroup):
            await lose()


async def test_a_call_can_be_taken_up_again_by_its_resumption_token(house: House, key: str) -> None:
    """What a host does that keeps the token: abandon the call, and ask for its result later."""
    tokens: list[str] = []
    heard = anyio.Event()

    async def on_token(token: str) -> None:
        tokens.append(token)
        if len(tokens) > STAGES // 2:
            heard.set()

    async def stages(session: ClientSession, metadata: ClientMessageMetadata) -> str:
        params = types.CallToolRequestParams(name="stages", arguments={"key": key})
        result = await session.send_request(
            types.CallToolRequest(params=params),
            types.CallToolResult,
            metadata=metadata,
            progress_callback=Ears().on_progress,
        )
        assert isinstance(result.content[0], types.TextContent)
        return result.content[0].text

    with anyio.fail_after(PATIENCE):
        async with (
            streamable_http_client(house.url) as (read, write),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            async with anyio.create_task_group() as calls:
                metadata = ClientMessageMetadata(on_resumption_token_update=on_token)
                calls.start_soon(stages, session, metadata)
                await heard.wait()
                calls.cancel_scope.cancel()
            house.witness.open_gate(key)
            again = ClientMessageMetadata(resumption_token=tokens[-1])
            assert await stages(session, again) == DONE.text
    assert house.witness.runs[key] == 1

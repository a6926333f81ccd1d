"""What Headway promises holds behind each proxy with the configuration that is shipped."""

import json

import pytest
from tests.deploy.client import Client
from tests.deploy.conftest import Deployment
from tests.deploy.witness import Witness
from tests.kit.peers import Modern, each_era, progress_of, text_of

pytestmark = pytest.mark.anyio


@each_era
async def test_what_a_tool_says_is_seen_while_it_waits(
    shared: Deployment, seen: Witness, era: str
) -> None:
    client = Client(shared, seen)
    answer = await client.call(era, 3, token="t")
    execution = await seen.began(client.job)
    heard: list[float] = []
    for _ in range(3):
        heard += progress_of([await answer.message()])
        execution.go_on()
    (outcome,) = await answer.rest()
    assert heard == [1, 2, 3]
    assert text_of(outcome) == f"{client.job} by {execution.pid}"
    assert len(seen.executions[client.job]) == 1


@each_era
async def test_a_silent_stream_has_its_head_and_its_pings(
    shared: Deployment, seen: Witness, era: str
) -> None:
    client = Client(shared, seen)
    answer = await client.call(era, 1)
    assert (answer.status, answer.is_stream) == (200, True)
    pings = 0
    while pings < 3:
        frame = await answer.frame()
        pings += frame.comment is not None
    execution = await seen.began(client.job)
    assert not execution.ended.is_set()
    execution.go_on()
    assert text_of((await answer.rest())[-1]).startswith(client.job)


@pytest.mark.parametrize("when", ["before the head", "in silence", "between two messages"])
async def test_a_2026_client_that_disconnects_cancels_the_tool(
    shared: Deployment, seen: Witness, when: str
) -> None:
    client, modern = Client(shared, seen), Modern(shared.wire)
    token = "t" if when == "between two messages" else None
    body = modern.call_message("work", client.arguments(2), token=token)
    connection = await modern.send(body, client.headers)
    execution = await seen.began(client.job)
    if when != "before the head":
        answer = await connection.answer()
        await (answer.message() if token else answer.frame())
    assert not execution.ended.is_set()
    connection.cut()
    assert await execution.was_stopped()


async def test_a_cut_2025_call_is_resumed_on_the_other_replica(
    shared: Deployment, seen: Witness
) -> None:
    client = Client(shared, seen)
    session = await client.session()
    answer = await session.call("work", client.arguments(15), id="w", token="t")
    execution = await seen.began(client.job)
    heard = progress_of([await answer.message()])
    cursor = answer.ids[-1]
    elsewhere = 0
    for number in range(2, 15):
        answer.cut()
        client.mark(f"{client.job}-resume{number}")
        answer = await session.get(cursor)
        assert answer.status == 200
        execution.go_on()
        heard += progress_of([await answer.message()])
        cursor = answer.ids[-1]
        (pid,) = seen.served[f"{client.job}-resume{number}"]
        elsewhere += pid != execution.pid
    assert elsewhere > 0, "no GET has come to the other replica"
    execution.go_on(2)
    messages = await answer.rest()
    whole = [*heard, *progress_of(messages)]
    assert whole == list(range(1, 16)), (whole, cursor, answer.ids)
    assert (messages[-1]["id"], text_of(messages[-1])) == ("w", f"{client.job} by {execution.pid}")
    assert len(seen.executions[client.job]) == 1
    assert not shared.replica_of(execution.pid).stderr.count("Traceback")


async def test_a_session_lives_on_all_replicas(shared: Deployment, seen: Witness) -> None:
    client = Client(shared, seen)
    session = await client.session()
    ways = set[int]()
    for number in range(40):
        client.mark(f"{client.job}-list{number}")
        assert (await session.request("tools/list")).status == 200
        ways.add(seen.served[f"{client.job}-list{number}"][0])
    assert ways == {one.pid for one in shared.replicas}


async def test_a_session_that_is_deleted_ends_on_all_replicas(
    shared: Deployment, seen: Witness
) -> None:
    session = await Client(shared, seen).session()
    for _ in range(4):
        assert (await session.request("tools/list")).status == 200
    assert (await session.delete()).status in (200, 204)
    for _ in range(4):
        assert (await session.request("tools/list")).status == 404


async def test_a_key_reaches_the_replica(shared: Deployment, seen: Witness) -> None:
    client, modern = Client(shared, seen), Modern(shared.wire)
    body = modern.call_message("work", client.arguments(1), token="t")
    headers = {**client.headers, "Idempotency-Key": client.job}
    first = await modern.post(body, headers)
    await first.message()
    second = await modern.post(body, headers)
    await second.message()
    (await seen.began(client.job)).go_on()
    assert text_of((await first.rest())[-1]) == text_of((await second.rest())[-1])
    assert len(seen.executions[client.job]) == 1


async def test_a_body_that_is_too_large_is_refused_in_headways_words(
    shared: Deployment, seen: Witness
) -> None:
    client, modern = Client(shared, seen), Modern(shared.wire)
    body = modern.call_message("work", {**client.arguments(1), "job": "x" * 5_000_000})
    answer = await modern.post(body, client.headers)
    assert answer.status == 413
    assert "larger than 4194304 bytes" in json.loads(await answer.body())["error"]["message"]


async def test_a_body_of_three_megabytes_passes(shared: Deployment, seen: Witness) -> None:
    client, modern = Client(shared, seen), Modern(shared.wire)
    message = modern.call_message("work", client.arguments(1), token="t")
    message["params"]["_meta"]["org.example/padding"] = "x" * 3_000_000
    answer = await modern.post(message, client.headers)
    execution = await seen.began(client.job)
    execution.go_on()
    assert (await answer.outcome())["result"]["content"][0]["text"].startswith(client.job)


async def test_the_name_that_the_client_used_is_what_headway_checks(
    shared: Deployment, seen: Witness
) -> None:
    client, modern = Client(shared, seen), Modern(shared.wire)
    foreign = {**client.headers, "Host": "evil.example.org"}
    answer = await modern.post(modern.body("tools/list"), foreign)
    assert answer.status == 421
    assert "--allow-host" in json.loads(await answer.body())["error"]["message"]

"""One caller sends so many requests a second, and no other one notices."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from tests.kit.auth import bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, each_era, served
from tests.kit.tools import GatedTools

from headway import Settings, rate_limits
from headway.errors import ProtocolError, SetupError
from headway.testing import FakeClock
from headway.transport.http.exchange import Exchange
from headway.transport.http.request_rates import RequestRates

pytestmark = pytest.mark.anyio

RATE = 2.0
BURST = 10

Ask = Callable[[], Awaitable[Answer]]


async def asking(wire: Wire, era: str, token: str | None = None) -> Ask:
    """How a caller sends one more request, of as many as there were for it to come in."""
    headers = {} if token is None else bearer(token)
    if era == "2026":
        client = Modern(wire)
        return lambda: client.post(client.body("tools/list"), headers)
    session = await Session.open(wire, extra=headers)
    return lambda: session.request("tools/list")


async def until_refused(ask: Ask) -> Answer:
    for _ in range(BURST + 1):
        if (answer := await ask()).status == 429:
            return answer
        await answer.body()
    raise AssertionError("it is never refused")


@each_era
async def test_one_caller_is_told_when_to_go_on_and_others_go_on(era: str) -> None:
    settings = Settings(requests_each=RATE)
    async with served(guarded_tools().mcp, settings=settings) as wire:
        alice = await asking(wire, era, "alice:1")
        refused = await until_refused(alice)
        assert refused.headers["retry-after"] == "1"
        assert (await refused.json())["error"]["data"] == {"limit": "requests_each"}
        mallory = await asking(wire, era, "mallory:1")
        assert (await mallory()).status == 200
        other = await asking(wire, "2026", "alice:2")  # another token of the same caller
        assert (await other()).status == 429
        await wire.clock.advance(1)
        assert [(await alice()).status for _ in range(3)] == [200, 200, 429]
        assert wire.app.counters.reached["requests_each"] == 3
        assert wire.app.counters.refused[429] == 3


@each_era
async def test_who_is_anonymous_is_known_by_the_address(era: str) -> None:
    settings = Settings(requests_each=RATE)
    async with served(GatedTools("quick").mcp, settings=settings) as wire:
        await until_refused(await asking(wire, era))
        assert (await (await asking(wire, "2026"))()).status == 429
        await wire.clock.advance(60)
        await until_refused(await asking(wire, era))  # never more than one burst at once


def request_from(address: str | None) -> Exchange:
    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(_message: MutableMapping[str, Any]) -> None:
        pass

    client = None if address is None else (address, 1)
    scope = {"type": "http", "method": "POST", "headers": [], "client": client}
    return Exchange(scope, receive, send)


def is_refused(rates: RequestRates, address: str | None) -> bool:
    try:
        rates.check_rate(request_from(address))
    except ProtocolError:
        return True
    return False


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("not: an address", "192.0.2.1", False),
        (None, None, True),
    ],
)
def test_a_subscriber_is_one_caller(one: str | None, other: str | None, is_same: bool) -> None:
    rates = RequestRates(0.1, FakeClock())
    assert not is_refused(rates, one)
    assert is_refused(rates, one)
    assert is_refused(rates, other) == is_same


async def test_very_many_callers_take_no_more_room_than_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "MOST_KEPT", 10)
    clock = FakeClock()
    rates = RequestRates(0.1, clock)
    for number in range(100):
        assert not is_refused(rates, f"192.0.2.{number}")
        assert len(vars(vars(rates)["_callers"])["_whole_at"]) <= 10
    assert is_refused(rates, "192.0.2.99")
    await clock.advance(1000)
    assert not is_refused(rates, "192.0.2.99")


async def test_without_the_setting_there_is_no_rate() -> None:
    async with served(GatedTools("quick").mcp) as wire:
        ask = await asking(wire, "2026")
        assert [(await ask()).status for _ in range(5 * BURST)] == [200] * 5 * BURST


def test_a_rate_is_not_below_zero() -> None:
    with pytest.raises(SetupError, match="requests_each"):
        Settings(requests_each=-1)

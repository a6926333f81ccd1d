"""The guard at the door: Host, Origin, media types."""

import pytest

from headway.errors import ProtocolError
from headway.settings import Settings
from headway.transport.http.host_check import Guard
from headway.transport.http.request_body import check_content_type


def status(guard: Guard, **headers: str) -> int:
    try:
        guard.check(headers)
    except ProtocolError as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200), ("127.0.0.1:8000", 200), ("[::1]:9", 200), ("LOCALHOST:1", 200),
        ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example:80", 421),
        ("", 421), ("evil.example:localhost", 400), ("localhost:80@evil.example", 400),
        ("[::1].evil.example", 400), ("localhost:evil", 400), ("user@localhost", 400),
    ],
)  # fmt: skip
def test_bound_to_loopback_only_loopback_names_are_served(host, expected):
    assert status(Guard(Settings(), "127.0.0.1"), host=host) == expected


def test_a_missing_host_is_refused():
    assert status(Guard(Settings(), "127.0.0.1")) == 400


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:3000", 200), ("http://127.0.0.1", 200), ("http://[::1]:8080", 200),
        ("http://evil.example", 403), ("null", 403), ("garbage", 403), ("http://[", 403),
        ("http://localhost.evil.example", 403),
    ],
)  # fmt: skip
def test_a_foreign_page_is_refused(origin, expected):
    guard = Guard(Settings(), "127.0.0.1")
    assert status(guard, host="localhost:8000", origin=origin) == expected


def test_names_and_origins_can_be_allowed():
    settings = Settings(
        allowed_hosts=("mcp.example", "*.inner.example"), allowed_origins=("https://app.example",)
    )
    guard = Guard(settings, "127.0.0.1")
    assert status(guard, host="mcp.example:443") == 200
    assert status(guard, host="a.inner.example") == 200
    assert status(guard, host="inner.example") == 421
    assert status(guard, host="mcp.example", origin="https://app.example") == 200
    assert status(guard, host="mcp.example", origin="https://mcp.example") == 200
    assert status(guard, host="mcp.example", origin="https://other.example") == 403


def test_bound_to_all_addresses_any_host_passes_until_names_are_given():
    assert status(Guard(Settings(), "0.0.0.0"), host="anything.example") == 200
    named = Guard(Settings(allowed_hosts=("mcp.example",)), "0.0.0.0")
    assert status(named, host="anything.example") == 421


@pytest.mark.parametrize("allowed", [(), ("*",), ("*.*",), ("mcp.example", "*")])
def test_a_host_that_anybody_may_choose_vouches_for_no_page(allowed):
    guard = Guard(Settings(allowed_hosts=allowed, allowed_origins=("https://app.example",)), "::")
    for origin in ("http://evil.example", "http://evil.example:80", "https://EVIL.example"):
        assert status(guard, host="evil.example:80", origin=origin) == 403
    for origin in ("https://app.example", "http://localhost:3000"):
        assert status(guard, host="evil.example", origin=origin) == 200
    assert status(guard, host="evil.example") == 200


def test_the_check_can_be_switched_off():
    assert status(Guard(Settings(check_host=False), "127.0.0.1"), host="evil.example") == 200


@pytest.mark.parametrize(
    ("media", "expected"),
    [("application/json", True), ("Application/JSON; charset=utf-8", True), ("text/plain", False),
     ("", False), ("application/json-patch+json", False)],
)  # fmt: skip
def test_only_json_is_taken(media, expected):
    if expected:
        check_content_type({"content-type": media})
    else:
        with pytest.raises(ProtocolError, match="application/json"):
            check_content_type({"content-type": media})

"""Whose tokens let a request in: those of an issuer, and those of the file."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mcp.server.auth.middleware.auth_context import get_access_token
from tests.auth.issuer import RESOURCE, Issuer, issuing, jwk_of, key_pair
from tests.kit.auth import bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, each_era, served, text_of
from tests.kit.waits import until

from headway import Headway, Settings, asgi
from headway.errors import SetupError
from headway.tokens import AuthConfig, FileToken, IssuerKeys, KeysUnavailable, TokenCheck
from headway.tokens.issuer_keys import FETCH_INTERVAL, FRESH_FOR, STALE_AFTER, keys_of_issuer

pytestmark = pytest.mark.anyio


def whose() -> Headway:
    mcp = Headway("whose")

    @mcp.tool()
    async def who() -> str:
        token = get_access_token()
        return f"{token.subject} of {token.client_id}" if token else "nobody"

    assert who
    return mcp


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


async def call(wire: Wire, token: str) -> Answer:
    client = Modern(wire)
    return await client.post(client.call_message("who"), bearer(token))


def of(issuer: Issuer, **more: Any) -> AuthConfig:
    return AuthConfig(resource=RESOURCE, issuer=issuer.url, scopes=("mcp",), **more)


@pytest.mark.parametrize("leeway", ["0s", "0", 0, 0.0])
async def test_a_clock_that_never_differs_needs_no_leeway(issuer: Issuer, leeway: object) -> None:
    values = {"resource": RESOURCE, "issuer": issuer.url, "scopes": ["mcp"], "leeway": leeway}
    async with served(whose(), auth=AuthConfig.model_validate(values)) as wire:
        assert (await call(wire, issuer.token())).status == 200
        assert (await call(wire, issuer.token(exp=int(time.time()) - 1))).status == 401


@pytest.mark.parametrize("leeway", ["-1s", -1, float("nan"), float("inf"), True, "soon"])
def test_a_leeway_that_is_no_duration_is_refused(leeway: object) -> None:
    with pytest.raises(ValueError, match="leeway"):
        AuthConfig.model_validate(
            {"resource": RESOURCE, "issuer": "https://idp.example.com/", "leeway": leeway}
        )


def text64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unsigned(issuer: Issuer) -> str:
    claims = issuer.token().split(".")[1]
    head = json.dumps({"alg": "none", "typ": "JWT"})
    return f"{text64(head.encode())}.{claims}."


def with_public_key_as_secret(issuer: Issuer) -> str:
    """The classical confusion: what everybody knows, taken for a secret."""
    claims = issuer.token().split(".")[1]
    signed = text64(json.dumps({"alg": "HS256", "kid": "one"}).encode()) + "." + claims
    public = key_pair("RSA", "one").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.digest(pem, signed.encode(), "sha256")
    return f"{signed}.{text64(mac)}"


def now() -> int:
    return int(time.time())


BAD: dict[str, Callable[[Issuer], str]] = {
    "nothing": lambda _: "",
    "no token": lambda _: "a.b",
    "no base64": lambda _: "{}!.e30.e30",
    "too long": lambda issuer: issuer.token(pad="x" * 20_000),
    "without a signature": unsigned,
    "signed with the public key": with_public_key_as_secret,
    "a foreign key with our name": lambda issuer: issuer.token(name="two", head={"kid": "one"}),
    "an unknown key": lambda issuer: issuer.token(name="two"),
    "a key of its own in its head": lambda issuer: issuer.token(
        name="two", head={"kid": "one", "jwk": jwk_of("RSA", "two")}
    ),
    "a place for keys in its head": lambda issuer: issuer.token(
        name="two", head={"kid": "one", "jku": f"{issuer.url}/mine"}
    ),
    "an extension to be understood": lambda issuer: issuer.token(head={"crit": ["b64"], "b64": 1}),
    "another algorithm of its key": lambda issuer: issuer.token(algorithm="RS512"),
    "the name of its key as a number": lambda issuer: issuer.token().replace(
        issuer.token().split(".")[0],
        text64(b'{"alg":"RS256","kid":1}'),
    ),
    "expired": lambda issuer: issuer.token(exp=now() - 60),
    "not yet": lambda issuer: issuer.token(nbf=now() + 600),
    "no end": lambda issuer: issuer.token(exp=None),
    "an end that is no number": lambda issuer: issuer.token(exp="soon"),
    "another audience": lambda issuer: issuer.token(aud="https://mcp.example.com/other"),
    "an audience that begins alike": lambda issuer: issuer.token(aud=RESOURCE + "2"),
    "no audience": lambda issuer: issuer.token(aud=None),
    "another issuer": lambda issuer: issuer.token(iss="https://evil.example"),
    "its issuer with a slash": lambda issuer: issuer.token(iss=f"{issuer.url}/"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "no subject": lambda issuer: issuer.token(sub=None),
    "an empty subject": lambda issuer: issuer.token(sub=""),
}


@pytest.mark.parametrize("place", ["url", "file"])
@pytest.mark.parametrize("bad", BAD)
async def test_a_token_that_is_not_good_is_refused(
    bad: str, place: str, issuer: Issuer, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": issuer.keys}))
    auth = of(issuer, jwks=str(file) if place == "file" else None)
    async with served(whose(), auth=auth) as wire:
        assert text_of(await (await call(wire, issuer.token())).outcome()) == "alice of app"
        refused = await call(wire, BAD[bad](issuer))
        assert refused.status == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert text_of(await (await call(wire, issuer.token())).outcome()) == "alice of app"


@pytest.mark.parametrize("kind", ["RSA", "EC", "OKP"])
async def test_each_kind_of_public_key_is_taken(kind: str, issuer: Issuer) -> None:
    issuer.keys = [jwk_of(kind, "one")]
    async with served(whose(), auth=of(issuer)) as wire:
        audience = ["https://other.example", RESOURCE]
        token = issuer.token(kind, aud=audience, scope=None, scp=["mcp", "more"])
        assert text_of(await (await call(wire, token)).outcome()) == "alice of app"


async def test_a_set_with_one_key_needs_no_names(issuer: Issuer) -> None:
    issuer.keys = [jwk_of("RSA", "one", kid=None)]
    async with served(whose(), auth=of(issuer)) as wire:
        assert (await call(wire, issuer.token(head={"kid": None}))).status == 200


async def test_keys_for_secrets_and_for_encryption_are_none(issuer: Issuer) -> None:
    secret = text64(b"s" * 32)
    issuer.keys = [
        {"kty": "oct", "k": secret, "kid": "secret"},
        jwk_of("RSA", "one", use="enc"),
        {"kty": "RSA", "kid": "broken"},
        jwk_of("EC", "good"),
    ]
    async with served(whose(), auth=of(issuer)) as wire:
        assert (await call(wire, issuer.token())).status == 401
        assert (await call(wire, issuer.token("EC", "good"))).status == 200


@pytest.mark.requirement("auth.metadata", "auth.metadata-found", "auth.scope-in-401")
@each_era
async def test_who_has_no_token_is_told_where_to_get_one(era: str, issuer: Issuer) -> None:
    async with served(whose(), auth=of(issuer)) as wire:
        body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        headers = {"Content-Type": "application/json"}
        if era == "2026":
            headers["MCP-Protocol-Version"] = "2026-07-28"
        refused = await wire.ask("POST", headers, body)
        assert refused.status == 401
        challenge = refused.headers["www-authenticate"]
        where = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
        assert challenge == f'Bearer scope="mcp", resource_metadata="{where}"'
        found = await wire.ask("GET", {}, path="/.well-known/oauth-protected-resource/mcp")
        described = json.loads(await found.body())
    assert described["resource"] == RESOURCE
    assert described["authorization_servers"] == [f"{issuer.url}/"]
    assert described["scopes_supported"] == ["mcp"]


async def test_a_token_without_the_scope_may_ask_for_all_of_them(issuer: Issuer) -> None:
    async with served(whose(), auth=of(issuer)) as wire:
        refused = await call(wire, issuer.token(scope="other"))
        assert refused.status == 403
        challenge = refused.headers["www-authenticate"]
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="mcp"' in challenge


async def test_a_request_with_two_tokens_is_refused(issuer: Issuer) -> None:
    async with served(whose(), auth=of(issuer)) as wire:
        two = {**bearer(issuer.token()), "authorization": "Bearer x"}
        assert (await wire.ask("POST", two, b"{}")).status == 400


async def test_every_method_of_the_endpoint_wants_a_token(issuer: Issuer) -> None:
    async with served(whose(), auth=of(issuer)) as wire:
        session = await Session.open(wire, extra=bearer(issuer.token()))
        bare = {"Mcp-Session-Id": session.id, "Accept": "text/event-stream"}
        for method in ("GET", "DELETE", "PUT", "OPTIONS"):
            assert (await wire.ask(method, bare)).status == 401
        assert (await session.request("ping")).status == 200
        other = Session(wire, session.version, session.id, bearer(issuer.token(sub="mallory")))
        assert (await other.request("ping")).status == 404


async def test_a_client_that_stands_for_nobody_is_its_own_principal(issuer: Issuer) -> None:
    async with served(whose(), auth=of(issuer, principal="client")) as wire:
        outcome = await (await call(wire, issuer.token(sub=None))).outcome()
        assert text_of(outcome) == "None of app"
        assert (await call(wire, issuer.token(client_id=None))).status == 401


# The tokens of the file


def file_token(token: str, **more: Any) -> FileToken:
    return FileToken(sha256=hashlib.sha256(token.encode()).hexdigest(), **more)


async def test_a_token_of_the_file_is_good_until_it_expires() -> None:
    tokens = {
        "ci": file_token("old", expires=time.time() - 1),
        "next": file_token("new", expires=time.time() + 600, scopes=("mcp",)),
        "bare": file_token("bare"),
    }
    auth = AuthConfig(tokens=tokens, scopes=("mcp",))
    async with served(whose(), auth=auth) as wire:
        statuses = [(await call(wire, each)).status for each in ("old", "new", "bare", "other")]
        assert statuses == [401, 200, 403, 401]
        assert text_of(await (await call(wire, "new")).outcome()) == "next of next"
        refused = await call(wire, "other")
        assert "resource_metadata" not in refused.headers["www-authenticate"]


async def test_an_issuer_cannot_speak_for_a_token_of_the_file(issuer: Issuer) -> None:
    auth = of(issuer, tokens={"alice": file_token("secret", scopes=("mcp",))})
    async with served(whose(), auth=auth) as wire:
        own = await Session.open(wire, extra=bearer("secret"))
        claims = {"sub": "alice", "client_id": "alice"}
        other = Session(wire, own.version, own.id, bearer(issuer.token(**claims)))
        assert (await other.request("ping")).status == 404
        assert (await own.request("ping")).status == 200


async def test_a_server_with_its_own_auth_takes_no_other() -> None:
    auth = AuthConfig(tokens={"ci": file_token("x")})
    with pytest.raises(SetupError, match="has its own auth"):
        asgi(guarded_tools().mcp, auth=auth)


# The issuer's keys


class Turned:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def is_good(check: TokenCheck, token: str) -> bool:
    return await check.verify_token(token) is not None


@pytest.fixture
def seconds() -> Turned:
    return Turned()


@pytest.fixture
def check(issuer: Issuer, seconds: Turned) -> TokenCheck:
    return TokenCheck(of(issuer), keys=IssuerKeys(keys_of_issuer(issuer.url), seconds))


async def test_unknown_keys_make_nobody_fetch_again_and_again(
    check: TokenCheck, issuer: Issuer
) -> None:
    assert await is_good(check, issuer.token())
    before = len(issuer.fetched)
    for number in range(30):
        assert not await is_good(check, issuer.token(name="two", head={"kid": f"{number}"}))
    assert len(issuer.fetched) == before


async def test_a_rotated_key_is_found_and_the_old_one_ends(
    check: TokenCheck, issuer: Issuer, seconds: Turned
) -> None:
    old = issuer.token()
    assert await is_good(check, old)
    issuer.keys = [jwk_of("RSA", "two")]
    seconds.now += FETCH_INTERVAL + 1
    assert await is_good(check, old)  # nothing has asked for a new key yet
    assert await is_good(check, issuer.token(name="two"))
    assert not await is_good(check, old)


async def test_an_issuer_that_is_away_takes_nobodys_access_for_an_hour(
    check: TokenCheck, issuer: Issuer, seconds: Turned
) -> None:
    assert await is_good(check, issuer.token())
    issuer.is_away = True
    seconds.now += STALE_AFTER - 1
    assert await is_good(check, issuer.token())
    seconds.now += 2
    async with served(whose(), auth=of(issuer)) as wire:
        refused = await call(wire, issuer.token())
        assert refused.status == 503
        assert refused.headers["retry-after"] == "10"


async def test_an_issuer_that_answers_nothing_holds_nobody_whose_key_is_known(
    check: TokenCheck, issuer: Issuer, seconds: Turned
) -> None:
    assert await is_good(check, issuer.token())
    fetched = len(issuer.fetched)
    async with issuer.silent():
        seconds.now += FRESH_FOR + 1
        assert await is_good(check, issuer.token())
        await until(lambda: len(issuer.fetched) > fetched)
        assert await is_good(check, issuer.token())
    issuer.keys = [jwk_of("RSA", "two")]
    seconds.now += FETCH_INTERVAL + 1
    assert await is_good(check, issuer.token(name="two"))


def test_keys_are_found_in_one_loop_after_another() -> None:
    """As an app is that is started again; a loop may end while keys are fetched."""
    issuer = Issuer(url="https://issuer.example")
    is_stuck = True

    async def load() -> bytes:
        if is_stuck:
            await asyncio.Event().wait()
        return json.dumps({"keys": issuer.keys}).encode()

    clock = Turned()
    check = TokenCheck(of(issuer), keys=IssuerKeys(load, clock))

    async def begin() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(check.verify_token(issuer.token()), 0.01)

    asyncio.run(begin())
    clock.now += FETCH_INTERVAL + 1
    is_stuck = False
    assert asyncio.run(is_good(check, issuer.token()))


ANSWERS = {
    "garbage": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhmm!",
    "an array": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "no keys": b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"keys":[]}',
    "without end": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 400_000,
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
    "an error": b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"SSH-2.0-x\r\n",
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_what_is_no_set_of_keys_changes_nothing(
    what: str, check: TokenCheck, issuer: Issuer, seconds: Turned, caplog: pytest.LogCaptureFixture
) -> None:
    assert await is_good(check, issuer.token())
    issuer.answer = ANSWERS[what]
    seconds.now += FRESH_FOR + 1
    assert await is_good(check, issuer.token())
    await until(lambda: "the issuer's keys cannot be fetched" in caplog.text)
    assert "/other" not in issuer.fetched


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://keys.example/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
)
async def test_metadata_that_cannot_be_trusted_gives_no_keys(
    said: dict[str, Any], check: TokenCheck, issuer: Issuer
) -> None:
    issuer.metadata = said
    refused = await _refusal(check, issuer.token())
    assert "cannot be fetched" in refused
    assert "/keys" not in issuer.fetched


async def _refusal(check: TokenCheck, token: str) -> str:
    with pytest.raises(KeysUnavailable) as refused:
        await check.verify_token(token)
    return str(refused.value)


async def test_a_browser_may_ask_first_without_a_token(issuer: Issuer) -> None:
    origin = "https://app.example"
    settings = Settings(allowed_origins=(origin,))
    async with served(whose(), auth=of(issuer), settings=settings) as wire:
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked = await wire.ask("OPTIONS", asking)
        assert asked.status in (200, 204)
        assert asked.headers["access-control-allow-origin"] == origin
        refused = await wire.ask("POST", {"Origin": origin, "Content-Type": "application/json"})
        assert refused.status == 401
        assert refused.headers["access-control-allow-origin"] == origin
        assert "www-authenticate" in refused.headers["access-control-expose-headers"].lower()

"""An authorization server that only has keys and metadata, and can be made to misbehave."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.kit.waits import PATIENCE

from headway.tokens import bounded_fetch, introspection, issuer_keys

RESOURCE = "https://mcp.example.com/mcp"

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


@cache
def key_pair(kind: str, name: str) -> Any:
    """A private key; `name` tells keys of one kind apart."""
    del name
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    return (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "EC"
        else (ed25519.Ed25519PrivateKey.generate())
    )


def jwk_of(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """The public half of a key, as a row of a key set."""
    public = key_pair(kind, name).public_key()
    algorithm = jwt.get_algorithm_by_name(_ALGORITHMS[kind])
    row: dict[str, Any] = json.loads(algorithm.to_jwk(public))
    return {**row, "kid": name, **more}


@dataclass
class Issuer:
    """Its metadata and keys at a URL on loopback."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=lambda: [jwk_of("RSA", "one")])
    fetched: list[str] = field(default_factory=list[str])
    answer: bytes | None = None
    """What it answers instead of its keys."""
    is_away: bool = False
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """What its metadata says otherwise."""
    _speaks: asyncio.Event | None = None

    def token(self, kind: str = "RSA", name: str = "one", **claims: Any) -> str:
        """A token that it has signed; a claim that is None is left out."""
        head = claims.pop("head", {})
        algorithm = claims.pop("algorithm", _ALGORITHMS[kind])
        now = int(time.time())
        said: dict[str, Any] = {
            "iss": self.url, "aud": RESOURCE, "sub": "alice", "client_id": "app",
            "scope": "mcp", "exp": now + 600, "iat": now,
        }  # fmt: skip
        said = {key: value for key, value in (said | claims).items() if value is not None}
        heads = {key: value for key, value in ({"kid": name} | head).items() if value is not None}
        return jwt.encode(said, key_pair(kind, name), algorithm=algorithm, headers=heads)

    @asynccontextmanager
    async def silent(self) -> AsyncGenerator[None]:
        """It takes requests and does not answer, while inside."""
        self._speaks = asyncio.Event()
        try:
            yield
        finally:
            self._speaks.set()
            self._speaks = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.fetched.append(path)
            if self._speaks is not None:
                await self._speaks.wait()
            if not self.is_away:
                writer.write(self._answer_to(path))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # who asked has left
        finally:
            writer.close()

    def _answer_to(self, path: str) -> bytes:
        if path == "/.well-known/openid-configuration":
            said = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.metadata}
            return _http(json.dumps(said).encode())
        if path == "/keys":
            return self.answer or _http(json.dumps({"keys": self.keys}).encode())
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def _http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def waited_for() -> Generator[None]:
    """Authorization servers have as long to answer as a busy machine may need."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (bounded_fetch, introspection, issuer_keys):
            patched.setattr(module, "FETCH_TIMEOUT", PATIENCE)
        yield


@asynccontextmanager
async def issuing() -> AsyncGenerator[Issuer]:
    """An issuer that listens."""
    issuer = Issuer()
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with waited_for():
            yield issuer

"""Requests to an authorization server: bounded in time and size, and following nobody anywhere."""

import json
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, cast

import httpx2

MOST_BYTES: Final = 256 * 1024
"""Bytes of an answer."""

FETCH_TIMEOUT: Final = 5.0
"""Seconds that an authorization server has to answer."""

FAILURES: Final = (ValueError, OSError, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError)
"""The errors of a request that was not answered well."""


class BadAnswer(ValueError):
    """The answer of an authorization server cannot be used; the text says why."""


async def fetch(
    url: str, *, form: Mapping[str, str] | None = None, login: httpx2.BasicAuth | None = None
) -> bytes:
    """Return the body of a 200: of a GET, or with `form` of a POST.

    Raises:
        BadAnswer: It is another status, or too long.
        httpx2.HTTPError, httpx2.InvalidURL: There is no answer.
    """
    async with (
        httpx2.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            timeout=FETCH_TIMEOUT,
            verify=_certificates(),
            auth=login,
        ) as http,
        http.stream(
            "GET" if form is None else "POST",
            url,
            data=form,
            headers={"Accept": "application/json"},
        ) as response,
    ):
        if response.status_code != 200:
            raise BadAnswer(f"{url} answered {response.status_code}")
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise BadAnswer(f"{url} answered more than {MOST_BYTES:,} bytes")
        return bytes(body)


def object_in(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; an empty one where it is other JSON.

    Raises:
        BadAnswer: It is no JSON.
    """
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswer("it is no JSON") from None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


@cache
def _certificates() -> ssl.SSLContext:
    """Return the authorities that are trusted; reading them takes 20 ms, so it is done once."""
    return httpx2.create_ssl_context(trust_env=False)

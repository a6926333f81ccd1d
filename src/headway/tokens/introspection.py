"""Introspection: asking the authorization server what a token is good for (RFC 7662).

Answers are kept for a while, refusals too, so that a caller costs the authorization server one
request in `cache` seconds. Where it cannot be asked nobody knows whether a token is good.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus

import httpx2

from headway.log_lines import quiet_logger
from headway.tokens.auth_section import Introspection
from headway.tokens.bounded_fetch import FAILURES, FETCH_TIMEOUT, BadAnswer, fetch, object_in
from headway.tokens.issuer_keys import KeysUnavailable

logger = quiet_logger(__name__)

MOST_KEPT: Final = 10_000
"""Answers that are kept; the oldest make room."""

MOST_ASKED: Final = 64
"""Tokens that are asked about at once: anybody can send tokens that nobody knows."""


class _Answer(NamedTuple):
    """A kept answer, and until when it is kept."""

    claims: dict[str, Any] | None
    """The claims of the token; None: it is not good."""
    until: float


class TokenIntrospection:
    """Asks the authorization server about tokens.

    Args:
        options: Where, as whom, and for how long an answer is kept.
        now: Seconds, of a clock that is not set.
    """

    def __init__(self, options: Introspection, now: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._now = now
        self._kept = OrderedDict[str, _Answer]()
        self._asked: dict[str, asyncio.Task[dict[str, Any] | None]] = {}

    async def find_claims(self, token: str, digest: str) -> dict[str, Any] | None:
        """Return what is said of a token; None where it is not active. `digest` is its hash.

        Raises:
            KeysUnavailable: The authorization server does not say.
        """
        kept = self._kept.get(digest)
        if kept is not None and kept.until > self._now():
            return kept.claims
        # Requests with one token that come together are one question.
        asked, loop = self._asked.get(digest), asyncio.get_running_loop()
        if asked is None or asked.get_loop() is not loop:
            if len(self._asked) >= MOST_ASKED:
                raise KeysUnavailable("too many tokens are being asked about")
            asked = self._asked[digest] = loop.create_task(self._ask_and_keep(token, digest))
            asked.add_done_callback(_take_error)
        return await asyncio.shield(asked)

    async def _ask_and_keep(self, token: str, digest: str) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                claims = _claims_in(await self._ask(token))
        except FAILURES as error:
            reason = str(error) or type(error).__name__
            logger.warning("the authorization server says nothing of tokens: %s", reason)
            raise KeysUnavailable("the authorization server cannot be asked") from None
        finally:
            self._asked.pop(digest, None)
        self._kept[digest] = _Answer(claims, self._now() + self._options.cache)
        self._kept.move_to_end(digest)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return claims

    async def _ask(self, token: str) -> bytes:
        options = self._options
        # Both are encoded first (RFC 6749, 2.3.1).
        login = httpx2.BasicAuth(quote_plus(options.client), quote_plus(options.secret))
        form = {"token": token, "token_type_hint": "access_token"}
        return await fetch(options.url, form=form, login=login)


def _take_error(asked: "asyncio.Task[dict[str, Any] | None]") -> None:
    """Take the error of a question whose askers may all have left."""
    if not asked.cancelled():
        asked.exception()


def _claims_in(body: bytes) -> dict[str, Any] | None:
    """Return what an answer says of a token, or None where that is not active.

    Raises:
        BadAnswer: It is no such answer.
    """
    claims = object_in(body)
    if not isinstance(claims.get("active"), bool):
        raise BadAnswer("its answer does not say whether a token is active")
    return claims if claims["active"] else None

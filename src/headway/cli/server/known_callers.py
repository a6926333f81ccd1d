"""The check that keeps a server from letting everybody call unasked.

Bound to loopback, or to a file, it can be reached by this machine alone. Bound elsewhere somebody
has to say whose tokens let in, or that everybody may come in.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headway.cli.server.listener import Listener
from headway.errors import SetupError

if TYPE_CHECKING:
    from headway.cli.local_token import LocalToken
    from headway.tokens import AuthConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownCallers:
    """The callers that a server lets in, as its operator has said."""

    auth: "AuthConfig | None" = None
    """The tokens that let a request in; None: all come in, or the server has its own auth."""
    local_token: "LocalToken | None" = None
    """The token among them that this start has made."""
    is_anonymous: bool | None = False
    """Whether everybody may call who can connect. None: nobody was asked, and a warning says it."""


NOBODY_SAID: Final = KnownCallers()


def check_callers(
    listener: Listener, callers: KnownCallers, has_own_auth: Callable[[], bool]
) -> None:
    """See that strangers are kept out, or let in on purpose; else close the listener.

    A socket in the file system has its mode, 0600 where Headway makes it; the one that a service
    manager opened (`--fd`) has the mode that was given to that.

    Raises:
        SetupError: The listener is bound elsewhere than to loopback, no token is asked for, and
            nobody has said that this is meant; or both were said.
    """
    auth, is_anonymous = callers.auth, callers.is_anonymous
    if auth is not None and is_anonymous:
        listener.close()
        raise SetupError(
            "--anonymous lets everybody in, [auth] and --local-token only who has a token; leave "
            "one of them out"
        )
    if auth is not None or is_anonymous or listener.is_for_this_machine or has_own_auth():
        return
    if is_anonymous is None:
        logger.warning("on %s everybody may call who can connect: no tokens are asked for",
                       listener.address)  # fmt: skip
        return
    where = listener.address
    listener.close()
    raise SetupError(
        f"on {where} everybody could call who can connect; say whose tokens let in with [auth] or "
        "--auth FILE (headway token makes one), or let everybody in with --anonymous"
    )

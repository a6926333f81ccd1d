"""The 2025 revisions without sessions (`--stateless`): each POST stands for itself.

Progress and logs are on its own stream. Events have no ids to resume with, the client is asked
nothing, and nothing is sent outside of its requests. Any process can answer any request, whether it
shares a journal with the others or not.
"""

import secrets
from typing import Final

from mcp_types.jsonrpc import METHOD_NOT_FOUND

from headway.engine import RunContext
from headway.errors import ProtocolError
from headway.protocol.eras import DEFAULT_VERSION, ERAS, without_sessions
from headway.protocol.jsonrpc_message import Message, check_version
from headway.stream_names import principal_tag
from headway.transport.http.era_2025 import Http2025
from headway.transport.http.exchange import Exchange, NotAllowed
from headway.transport.open_responses import ReaderSlot
from headway.transport.sessions.session import Session

_NEEDS_SESSION: Final = ("resources/subscribe", "resources/unsubscribe")
"""Methods that mean nothing where nothing can be sent later, unless the author handles them."""


class Stateless(Http2025):
    """Answers the requests of 2025 clients, each without knowing of any other."""

    async def handle_get(self, exchange: Exchange) -> None:
        """Refuse a GET: there is no stream besides those of requests.

        Raises:
            NotAllowed: Always.
        """
        raise NotAllowed("There are no sessions here (--stateless), and no GET", "POST")

    async def handle_delete(self, exchange: Exchange) -> None:
        """Refuse a DELETE: there is no session.

        Raises:
            NotAllowed: Always.
        """
        raise NotAllowed("There are no sessions here (--stateless) to delete", "POST")

    async def _find_session(self, exchange: Exchange, *, uses: bool = True) -> Session:
        """Return a session that lasts for this POST."""
        check_version(exchange.version)
        session = self._draft_session(exchange)
        version = exchange.version or DEFAULT_VERSION
        session.facts.era = without_sessions(ERAS[version])
        session.connection.protocol_version = version
        session.connection.initialized.set()
        return session

    def _draft_session(self, exchange: Exchange) -> Session:
        session = Session(self._sessions, secrets.token_urlsafe(24), exchange.owner)
        # Its runs are where their caller finds them, with any other request.
        session.tag = principal_tag(exchange.owner)
        session.is_single = True
        return session

    def _reserve_slot(self, session: Session, message: Message) -> ReaderSlot:
        # POSTs of one client cannot be told from those of others, so other limits bound them.
        return self._responses.reserve_slot(session.id)

    async def _handle_message(self, exchange: Exchange, session: Session, message: Message) -> None:
        # Ids of other POSTs mean nothing here: there is nothing to cancel and nothing was asked.
        if message.method is None or message.method == "notifications/cancelled":
            return
        await super()._handle_message(exchange, session, message)

    def _make_context(
        self, exchange: Exchange, message: Message, session: Session, *, can_ask: bool
    ) -> RunContext:
        if message.method in _NEEDS_SESSION and not self._messages.is_for_author(message.method):
            raise ProtocolError(
                METHOD_NOT_FOUND,
                "There are no sessions here (--stateless): nobody could be told of changes",
            )
        return super()._make_context(exchange, message, session, can_ask=False)

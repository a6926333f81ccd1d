"""2026-07-28 over HTTP: each POST stands for itself, and its stream is its life."""

from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp_types.jsonrpc import INVALID_REQUEST

from headway.errors import ProtocolError
from headway.events import Event
from headway.protocol import render
from headway.protocol.eras import MODERN
from headway.protocol.jsonrpc_message import Message, check_version, classify_modern
from headway.protocol.methods import LISTEN
from headway.stream_names import principal_tag
from headway.transport.hand_over import may_begin_early
from headway.transport.http.accept_header import Form, need_stream, response_form
from headway.transport.http.exchange import Exchange, Refusal
from headway.transport.http.json_or_sse import ResponseStream, SseRendering
from headway.transport.http.quick_answer import QuickAnswer
from headway.transport.http.reply import send_empty
from headway.transport.messages_2026 import Messages2026, reader_of
from headway.transport.open_responses import OpenResponses
from headway.transport.shared_parts import Endpoint


class Http2026:
    """Answers the POSTs of 2026-07-28 clients."""

    def __init__(self, endpoint: Endpoint, answers: OpenResponses) -> None:
        self._sdk = endpoint.sdk
        self._responses = answers
        self._messages = Messages2026(endpoint)

    async def handle_post(self, exchange: Exchange, message: Message) -> None:
        """Answer one self-contained message.

        Raises:
            ProtocolError: It is refused; the id of a request goes with it.
        """
        if message.method is None:
            raise ProtocolError(
                INVALID_REQUEST,
                "At 2026-07-28 a client posts no answers; send the request again with them",
            )
        if not message.is_request:
            # Nothing is defined for a client to notify of over HTTP; it does no harm either.
            check_version(exchange.version)
            await send_empty(exchange.send, 202)
            return
        try:
            message = self._messages.bound_message(message)  # drops the rest of the message
            await self._answer_request(exchange, message)
        except ProtocolError as error:
            raise Refusal(error, message.id) from None

    async def _answer_request(self, exchange: Exchange, message: Message) -> None:
        form = response_form(exchange.headers)
        if message.method == LISTEN:
            need_stream(exchange.headers, LISTEN)
        route = classify_modern(message, exchange.headers, exchange.scope["headers"])
        headers = exchange.request.headers
        context = self._messages.make_context(
            message, kind="streamable-http", headers=headers, request=exchange.request
        )
        caller = principal_tag(exchange.owner)
        await self._sdk.param_headers.check(route, message, headers, caller, context)
        run = await self._messages.run_request(
            message,
            route,
            context,
            exchange.owner,
            exchange.key,
            scopes=exchange.scopes,
            rated_as=exchange.rate_name,
        )
        cursor, reader = run.journal.open_cursor(run.stream), reader_of(message, run)

        def open_answer() -> ResponseStream:
            answer = self._responses.open(
                cursor,
                SseRendering(reader, status=_status_of),
                exchange.receive,
                exchange.send,
                until=exchange.until,
                opened=run.execution.born,
            )
            self._messages.offer_hand_over(run, answer, message, is_told=form is not Form.JSON)
            return answer

        quick = None
        if may_begin_early(run, context):
            quick = QuickAnswer(cursor, reader, exchange.send, status=_status_of)
        await self._responses.answer_request(run, quick, open_answer, MODERN, form=form)


def _status_of(event: Event) -> int:
    """Return the HTTP status of an answer that is nothing but the run's end."""
    code = render.error_code(event)
    return 200 if code is None else ERROR_CODE_HTTP_STATUS.get(code, 200)

"""Tools and a prompt that answer `input_required` and read the answers themselves (2026-07-28).

The suite wants keys of its own, and some of them without a `requestState`: what the SDK's resolvers
decide by themselves.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mcp.server.mcpserver import Context
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)

Ctx = Context[Any, Any]
Answer = str | InputRequiredResult


def fill_in(message: str, field: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def complete(prompt: str) -> CreateMessageRequest:
    words = SamplingMessage(role="user", content=TextContent(text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[words], max_tokens=100))


Round = Mapping[str, InputRequest]

ROOTS: Round = {"client_roots": ListRootsRequest()}
NAME: Round = {"user_name": fill_in("What is your name?", "name")}
CAPITAL: Round = {"capital_question": complete("What is the capital of France?")}
CONFIRM: Round = {"confirm": fill_in("Please confirm", "ok", "boolean")}
EVERYTHING: Round = {**NAME, "greeting": complete("Greet the user"), **ROOTS}
STEPS: tuple[Round, ...] = (
    {"step1": fill_in("Step 1: what is your name?", "name")},
    {"step2": fill_in("Step 2: what is your favorite color?", "color")},
)

ASKING: dict[str, tuple[Round, ...]] = {
    "test_input_required_result_sampling": (CAPITAL,),
    "test_input_required_result_list_roots": (ROOTS,),
    "test_input_required_result_request_state": (CONFIRM,),
    "test_input_required_result_tampered_state": (CONFIRM,),
    "test_input_required_result_multiple_inputs": (EVERYTHING,),
    "test_input_required_result_capabilities": (EVERYTHING,),
    "test_input_required_result_multi_round": STEPS,
}
"""The questions of each tool, round by round; its `requestState` is the number of the round."""

NEEDS = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""The capability that a client has to declare to be asked."""


def open_questions(ctx: Ctx, questions: Round) -> dict[str, InputRequest]:
    """What this client can be asked and has not answered."""
    answers = ctx.input_responses or {}
    return {
        key: question
        for key, question in questions.items()
        if key not in answers and getattr(ctx.client_capabilities, NEEDS[question.method], None)
    }


def answered(ctx: Ctx) -> str:
    answers = ctx.input_responses or {}
    return json.dumps({key: answer.model_dump(mode="json") for key, answer in answers.items()})


def once(ctx: Ctx, questions: Round) -> Answer:
    """Ask until everything is answered, without a state."""
    left = open_questions(ctx, questions)
    return InputRequiredResult(input_requests=left) if left else answered(ctx)


async def ask_name(ctx: Ctx) -> Answer:
    """Asks the user's name."""
    return once(ctx, NAME)


async def ask_context(ctx: Ctx) -> Answer:
    """Asks the user what it is about."""
    return once(ctx, {"user_context": fill_in("What is it about?", "context")})


def asking(rounds: tuple[Round, ...]) -> Callable[[Ctx], Awaitable[Answer]]:
    async def ask(ctx: Ctx) -> Answer:
        number = int(ctx.request_state or 0)
        if ctx.request_state and not open_questions(ctx, rounds[number]):
            number += 1
        if number == len(rounds):
            return answered(ctx)
        questions = open_questions(ctx, rounds[number])
        return InputRequiredResult(input_requests=questions, request_state=str(number))

    ask.__doc__ = f"Asks for {', '.join(key for questions in rounds for key in questions)}."
    return ask


TOOLS: dict[str, Callable[[Ctx], Awaitable[Answer]]] = {
    "test_input_required_result_elicitation": ask_name,
    **{name: asking(rounds) for name, rounds in ASKING.items()},
}
PROMPTS = {"test_input_required_result_prompt": ask_context}

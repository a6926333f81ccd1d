"""Tools that ask their client, with the SDK's resolvers.

One tool for all revisions: up to 2025-11-25 the question goes out on the call's own stream, at
2026-07-28 it is the call's `input_required` result.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Elicit, ElicitationResult, Resolve, Sample
from mcp_types import CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel, Field


class Account(BaseModel):
    username: str = Field(description="User's name")
    email: str = Field(description="User's mail address")


class Profile(BaseModel):
    """A field of each primitive type, each with its default."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


def titled(kind: str, *values: str) -> dict[str, Any]:
    return {kind: [{"const": value, "title": f"The {value}"} for value in values]}


VALUES = ("value1", "value2", "value3")
LEGACY: dict[str, Any] = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]}


class Choices(BaseModel):
    """Each way to write an enumeration: one or many, with titles or without, and the old one."""

    untitledSingle: Literal["option1", "option2", "option3"]
    titledSingle: str = Field(json_schema_extra=titled("oneOf", *VALUES))
    legacyEnum: str = Field(json_schema_extra=LEGACY)
    untitledMulti: list[Literal["option1", "option2", "option3"]]
    titledMulti: list[str] = Field(json_schema_extra={"items": titled("anyOf", *VALUES)})


def to_model(prompt: str) -> Sample:
    words = SamplingMessage(role="user", content=TextContent(text=prompt))
    return Sample([words], max_tokens=100)


def for_account(message: str) -> Elicit[Account]:
    return Elicit(message, Account)


def for_profile() -> Elicit[Profile]:
    return Elicit("Please check your profile", Profile)


def for_choices() -> Elicit[Choices]:
    return Elicit("Please choose", Choices)


def anything() -> Sample:
    return to_model("Say anything")


def outcome(result: ElicitationResult[Any]) -> str:
    data = result.data.model_dump_json() if result.action == "accept" else "nothing"
    return f"action={result.action}, content={data}"


def sampling(prompt: str, answer: Annotated[CreateMessageResult, Resolve(to_model)]) -> str:
    """Asks the client's model."""
    return f"LLM response: {getattr(answer.content, 'text', '')}"


def elicitation(
    message: str, answer: Annotated[ElicitationResult[Account], Resolve(for_account)]
) -> str:
    """Asks the user for an account."""
    return f"User response: {outcome(answer)}"


def elicitation_defaults(
    answer: Annotated[ElicitationResult[Profile], Resolve(for_profile)],
) -> str:
    """Asks the user for a profile that is filled in already."""
    return f"Elicitation completed: {outcome(answer)}"


def elicitation_enums(
    answer: Annotated[ElicitationResult[Choices], Resolve(for_choices)],
) -> str:
    """Asks the user to choose."""
    return f"Elicitation completed: {outcome(answer)}"


def streaming_elicitation(
    answer: Annotated[ElicitationResult[Profile], Resolve(for_profile)],
) -> str:
    """Asks the user while it could stream."""
    return outcome(answer)


def missing_capability(answer: Annotated[CreateMessageResult, Resolve(anything)]) -> str:
    """Needs a client that has a model."""
    return f"Answered by {answer.model}"


TOOLS: dict[str, Callable[..., str]] = {
    "test_sampling": sampling,
    "test_elicitation": elicitation,
    "test_elicitation_sep1034_defaults": elicitation_defaults,
    "test_elicitation_sep1330_enums": elicitation_enums,
    "test_streaming_elicitation": streaming_elicitation,
    "test_missing_capability": missing_capability,
}

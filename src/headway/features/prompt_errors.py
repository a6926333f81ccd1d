"""Errors that say what is wrong with a request for a prompt.

The SDK's server raises the same bare error for a prompt that does not exist, for missing and
unknown arguments, and for code that fails. The client can mend all of these but the last.
"""

from functools import partial
from typing import Any, Final

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ListPromptsResult, PaginatedRequestParams, Prompt

from headway.protocol.eras import ERAS, MODERN
from headway.wrapped_handlers import Handler, wrap_handler

_PAGES: Final = 100


def install_prompt_errors(low: Server[Any], *, is_bare: bool) -> None:
    """Let a server answer -32602 for a prompt that it does not list, or for wrong arguments.

    `is_bare`: the errors of its prompts are worded by the SDK. An author's own errors go to clients
    unchanged.
    """
    listing = low.get_request_handler("prompts/list")
    if listing is not None:
        wrap_handler(
            low, "prompts/get", "faults", partial(_explain_errors, listing.handler, is_bare)
        )


def _explain_errors(listing: Handler, is_bare: bool, inner: Handler) -> Handler:
    async def get_prompt(context: Any, params: Any) -> Any:
        try:
            return await inner(context, params)
        except MCPError:
            raise
        except Exception as error:
            era = ERAS.get(context.session.protocol_version, MODERN)
            if era.tells_errors and not is_bare:
                raise
            # Only after the handler has failed: a server may render prompts that it does not list.
            fault = await _client_fault(listing, context, params)
            if fault is None:
                raise
            raise MCPError(INVALID_PARAMS, fault) from error

    return get_prompt


async def _client_fault(listing: Handler, context: Any, params: Any) -> str | None:
    """Return the client's mistake as a sentence; None where it may be the server's."""
    try:
        prompt = await _find_prompt(listing, context, params.name)
    except Exception:  # noqa: BLE001 - the server's own code; its first error is the one to tell
        return None
    if prompt is None:
        return f"Unknown prompt: {params.name[:100]!r}"
    known = {argument.name: argument.required for argument in prompt.arguments or []}
    given: dict[str, str] = params.arguments or {}
    missing = [name for name, is_required in known.items() if is_required and name not in given]
    if missing:
        return f"The prompt needs the arguments: {', '.join(missing)}"
    other = [name for name in given if name not in known]
    return f"The prompt has no argument {other[0][:100]!r}" if other else None


async def _find_prompt(listing: Handler, context: Any, name: str) -> Prompt | None:
    cursor: str | None = None
    for _ in range(_PAGES):
        listed = await listing(context, PaginatedRequestParams(cursor=cursor))
        page = ListPromptsResult.model_validate(listed, by_name=False)  # or it may be a dict
        for prompt in page.prompts:
            if prompt.name == name:
                return prompt
        cursor = page.next_cursor
        if cursor is None:
            return None
    raise LookupError(name)

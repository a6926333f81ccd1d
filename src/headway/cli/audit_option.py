"""The option `--audit`: where the audit log goes, whatever the configuration says of it."""

from typing import TYPE_CHECKING

import typer

from headway.cli.config_option import config_of
from headway.cli.exit_codes import Refused

if TYPE_CHECKING:
    from headway.audit import AuditConfig


def audit_config(context: typer.Context, place: str | None) -> "AuditConfig | None":
    """Return the audit log of `[audit]`, at `place` where `--audit` names one; None: none is kept.

    Raises:
        Refused: `place` is none.
    """
    known = config_of(context).audit
    if place is None:
        return known
    from pydantic import ValidationError

    from headway.audit import AuditConfig

    given = {} if known is None else known.model_dump()
    try:
        return AuditConfig.model_validate({**given, "to": place})
    except ValidationError as error:
        raise Refused(f"--audit {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None

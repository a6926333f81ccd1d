"""Taking an entry of a queue apart: what cannot be is told, taken out, and stops nobody.

Whoever can write to the Redis can put anything into a queue, and so can another program that uses
the same names. Docket takes an entry apart outside of any `try`: a field that is missing ends the
worker, and each one that is started behind it. Here such an entry becomes a task of a generation
that Docket knows nothing of; it is superseded, so Docket acknowledges it and deletes it.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Self

from docket import Docket, Execution
from redis.exceptions import RedisClusterException, RedisError

from headway.errors import SetupError

logger = logging.getLogger(__name__)

WORKER: Final = "docket.worker"
"""Where Docket takes entries apart, by the name `Execution`."""

SHOWN: Final = 200
"""Characters that are logged of what is wrong with an entry."""


class _Entry(Execution):
    """What an entry stands for, whatever is in it."""

    @classmethod
    async def from_message(
        cls, docket: Docket, message: Any, *args: Any, message_id: Any = None, **options: Any
    ) -> Self:
        """As Docket's own; an entry that cannot be taken apart is one that nobody wants any more.

        Raises:
            RedisError, OSError: Redis is away.
        """
        try:
            return await super().from_message(
                docket, message, *args, message_id=message_id, **options
            )
        except (RedisError, RedisClusterException, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever is in it, it must not end a worker
            why = ascii(f"{type(error).__name__}: {error}")[1 : SHOWN + 1]
            logger.error("an entry of %s is no run and is dropped: %s", docket.name, why)
        return cls(
            docket,
            _nobody,
            (),
            {},
            f"dropped:{_text(message_id)}",
            datetime.now(UTC),
            1,
            generation=1,
            message_id=message_id,
        )


async def _nobody() -> None:
    """What is executed for it, if Docket should come to that."""


def _text(message_id: object) -> str:
    return message_id.decode() if isinstance(message_id, bytes) else str(message_id)


def guard_entries() -> None:
    """Have Docket's workers drop entries that they cannot take apart, in this process.

    Raises:
        SetupError: Docket is not as this version of Headway knows it.
    """
    module = sys.modules.get(WORKER)
    if module is None or not hasattr(module, "Execution"):
        raise SetupError(
            f"this version of Docket has no {WORKER}.Execution; install the one that "
            "headway[workers] asks for"
        )
    setattr(module, "Execution", _Entry)  # noqa: B010 - a class is replaced

"""A client behind a proxy, whose requests the witness can tell apart."""

import itertools
from typing import Any

from tests.deploy.conftest import Deployment
from tests.deploy.proxies import HOST
from tests.deploy.witness import Witness
from tests.kit.peers import Modern, Session

numbers = itertools.count(1)


class Client:
    """A client of an era behind a proxy, whose requests the witness can tell apart."""

    def __init__(self, deployment: Deployment, seen: Witness) -> None:
        self.deployment = deployment
        self.seen = seen
        self.job = f"{deployment.name}{next(numbers)}"
        self.headers = {"Host": HOST, **seen.token(self.job)}

    def mark(self, name: str) -> None:
        """Call what is sent from here on by a name of its own."""
        self.headers.update(self.seen.token(name))

    def arguments(self, steps: int) -> dict[str, Any]:
        return {"job": self.job, "steps": steps, "port": self.seen.port}

    async def session(self) -> Session:
        return await Session.open(self.deployment.wire, extra=self.headers)

    async def call(self, era: str, steps: int, token: Any = None) -> Any:
        """The answer to a call of `work`, with its head and no more."""
        if era == "2025":
            return await (await self.session()).call("work", self.arguments(steps), token=token)
        modern = Modern(self.deployment.wire)
        body = modern.call_message("work", self.arguments(steps), token=token)
        return await modern.post(body, self.headers)

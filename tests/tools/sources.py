"""Sources of a search that answer, hang or fail."""

import asyncio

from headway.tools.search import Source
from headway.tools.search.sources import Asked, Hit


class Fixed(Source):
    """A source with ready answers."""

    def __init__(self, name: str, *links: str) -> None:
        super().__init__(name)
        self.links = links
        self.asked = 0

    async def search(self, asked: Asked) -> list[Hit]:
        self.asked += 1
        return [Hit(link.upper(), link, f"snippet of {link}") for link in self.links]


class Hanging(Source):
    async def search(self, asked: Asked) -> list[Hit]:
        await asyncio.Event().wait()
        return []


class Raising(Source):
    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self.error = error

    async def search(self, asked: Asked) -> list[Hit]:
        raise self.error

"""The served objects of the interop tests, as targets of `headway run`."""

from tests.interop.houses import KINDS
from tests.interop.witness import Witness

MCPServer, Server, FastMCP, Headway = (build(Witness()) for build in KINDS.values())

"""A server that is run the way every SDK server is: by itself."""

import os
import sys
from typing import Any, cast

from headway import Headway, part, track

mcp = Headway("own")


@mcp.tool(rate=0)
def work(steps: int = 3) -> str:
    """Say where it is, and give out what there is."""
    for step in track(range(steps), message="step {item}"):
        part({"step": step})
    return "done"


if __name__ == "__main__":
    transport, port = sys.argv[1:]
    mcp.run(cast("Any", transport), port=int(port), journal=os.environ["JOURNAL"])
    sys.stderr.write("it goes on\n")

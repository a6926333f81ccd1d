"""How every measured server is run, so that only what is inside the app differs.

It imports nothing but uvicorn: start-up time is measured through it.
"""

import gc
import signal
from collections.abc import Callable
from typing import Any

import uvicorn


def serve(app: Callable[..., Any], port: int) -> None:
    """Serve an ASGI app on loopback until SIGTERM; SIGUSR1 collects garbage before a measure."""
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: gc.collect())
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )

"""A server for the tests of the process harness: `python stubborn.py PORT MODE`."""

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(port: int, mode: str) -> None:
    sys.stderr.write(f"process {os.getpid()} of {mode}\n")
    sys.stderr.flush()
    if mode == "fails":
        sys.exit("no configuration")
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "parent":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        sys.stderr.write(f"child {child.pid}\n")
        sys.stderr.flush()
    if mode == "orderly":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


main(int(sys.argv[1]), sys.argv[2])

"""`headway` as the leader of a session with a terminal of its own: ^C typed there is SIGINT."""

import fcntl
import sys
import termios

from headway.cli import main

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
main(sys.argv[1:])

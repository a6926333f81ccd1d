"""`python -m headway` is `headway`: nothing is imported from the current directory.

With `-m` Python puts the current directory first among the places for imports, and a file `json.py`
in a directory that is only to be served would be executed. A target that lies in the current
directory puts it back (`target`).
"""

import os
import sys

try:
    here = os.getcwd()  # noqa: PTH109 - pathlib would be one more thing to import from there
except OSError:  # the directory was deleted
    here = ""
if not sys.flags.safe_path and sys.path[:1] == [here]:
    del sys.path[0]

from headway.cli import main

main()

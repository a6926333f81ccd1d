"""A browser without a window: `python browse.py URL` goes where it is sent, and is redirected.

Before that somebody else of the machine sends the page here an answer that nobody asked for.
"""

import sys
from urllib.parse import parse_qs, urlsplit

import httpx2

[back] = parse_qs(urlsplit(sys.argv[1]).query)["redirect_uri"]
for stray in ("?code=x", "?code=x&state=guess", "?error=access_denied"):
    assert httpx2.get(back + stray, timeout=60).status_code == 404
httpx2.get(sys.argv[1], follow_redirects=True, timeout=60)

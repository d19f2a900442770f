"""Asks the server of one of h2specd's cases, through a sidecar: fetch.py OUTBOUND URL."""

import http.client
import sys
from urllib.parse import urlsplit

outbound, url = int(sys.argv[1]), urlsplit(sys.argv[2])
client = http.client.HTTPConnection("127.0.0.1", outbound, timeout=2)
try:
    client.request("GET", url.path, headers={"Host": f"server-{url.port}"})
    client.getresponse().read()
except (OSError, http.client.HTTPException):
    pass  # what a broken server makes of it is not the question here

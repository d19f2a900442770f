"""An app on Python's own HTTP server: page.py PORT HTTP/1.0|HTTP/1.1. Says "listening" when it does.

In HTTP/1.0 the end of its connection is the end of its answer.
"""

import http.server
import sys


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = sys.argv[2]

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        if self.protocol_version == "HTTP/1.1":
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page)
print("listening", flush=True)
server.serve_forever()

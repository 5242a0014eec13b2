"""A service that says what it is told of the caller: `python service.py PORT`."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    """Believes the headers, because nobody but the gateway reaches it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        told = {name: self.headers.get(f"X-Forwarded-{header}", "") for name, header in HEADERS.items()}
        body = (" ".join(f"{name}={value}" for name, value in told.items()) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HEADERS = {"subject": "User", "roles": "Groups", "scopes": "Scopes"}

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()

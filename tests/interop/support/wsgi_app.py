"""A WSGI application behind wsgiref: it tells the HTTP_ names that it was given, where `-` and `_` have become one."""

import json
from wsgiref.simple_server import WSGIRequestHandler, make_server


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: value for name, value in environ.items() if name.startswith("HTTP_")}).encode()]


class Quiet(WSGIRequestHandler):
    """Writes no access lines between the test's own output."""

    def log_message(self, *arguments):
        pass


def main():
    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()

"""What a server would make of recorded bytes, in the words of three parsers: h11, llhttp (httptools) and gunicorn's."""

import dataclasses
import re

import gunicorn.config
import gunicorn.http.parser
import h11
import httptools

# llhttp knows the methods of its table only. That is no matter of framing, so it is shown one that it knows.
LLHTTP_METHODS = set(b"DELETE GET HEAD POST PUT OPTIONS COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND".split())
LLHTTP_METHODS |= set(b"UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE".split())
LLHTTP_METHODS |= set(b"MKCALENDAR LINK UNLINK SOURCE QUERY".split())


@dataclasses.dataclass(frozen=True)
class Seen:
    """One whole request as a parser understood it."""

    method: bytes
    target: bytes
    body: bytes


@dataclasses.dataclass
class View:
    """What one parser made of the bytes: its whole requests, and whether it refused to go on."""

    requests: list[Seen]
    error: str = ""
    rest: bytes = b""
    ids: list[str] = dataclasses.field(default_factory=list)


def by_h11(data: bytes) -> View:
    view = View([])
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(data)
    view.rest = data
    try:
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                view.requests.append(Seen(request.method, request.target, body))
                view.ids.append(dict(request.headers).get(b"x-request-id", b"").decode())
                view.rest = parser.trailing_data[0]
                parser.send(h11.Response(status_code=204, headers=[]))
                parser.send(h11.EndOfMessage())
                parser.start_next_cycle()
            else:
                return view
    except h11.ProtocolError as error:
        view.error = repr(error)
        return view


class _Collector:
    """The callbacks of httptools."""

    def __init__(self) -> None:
        self.view = View([])
        self.target, self.body, self.parser = b"", b"", None

    def on_message_begin(self) -> None:
        self.target, self.body = b"", b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.view.requests.append(Seen(self.parser.get_method(), self.target, self.body))


def by_httptools(data: bytes, methods: list[bytes]) -> View:
    """`methods` are those that other parsers found, so that unknown ones can be shown as a known one of equal framing."""
    unknown = [method for method in dict.fromkeys(methods) if method not in LLHTTP_METHODS]
    for method in unknown:
        data = re.sub(rb"(?m)^" + re.escape(method) + rb"(?= [^ \r\n]+ HTTP/1\.1\r\n)", b"SOURCE", data)
    collector = _Collector()
    collector.parser = httptools.HttpRequestParser(collector)
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserError as error:
        collector.view.error = repr(error)
    if unknown:
        found = collector.view.requests
        renamed = [real if seen.method == b"SOURCE" else seen.method for seen, real in zip(found, methods)]
        collector.view.requests = [dataclasses.replace(seen, method=name) for seen, name in zip(found, renamed)] + found[len(renamed) :]
    return collector.view


GUNICORN = gunicorn.config.Config()
for name, value in {
    "limit_request_line": 0,
    "limit_request_field_size": 1 << 20,
    "limit_request_fields": 1000,
    # Methods are not framing: gunicorn's usual taste in them would hide what it makes of the rest.
    "permit_unconventional_http_method": True,
}.items():
    GUNICORN.set(name, value)


def by_gunicorn(data: bytes) -> View:
    view = View([])
    try:
        for request in gunicorn.http.parser.RequestParser(GUNICORN, iter([data]), ("127.0.0.1", 1)):
            view.requests.append(Seen(request.method.encode("latin-1"), request.uri.encode("latin-1"), request.body.read()))
    except Exception as error:  # Its errors have no base class of their own.
        view.error = repr(error)
    return view


def differences(data: bytes) -> tuple[View, list[str]]:
    """h11's view of one connection's bytes, and where the other parsers see something else."""
    first = by_h11(data)
    whole = data[: len(data) - len(first.rest)]
    found = [f"h11 refuses: {first.error}"] if first.error else []
    # A request that broke off is no request to anybody: llhttp is shown its beginning, gunicorn would wait for its end.
    for name, view in {"httptools": by_httptools(data, [seen.method for seen in first.requests]), "gunicorn": by_gunicorn(whole)}.items():
        if view.error:
            found.append(f"{name} refuses: {view.error}")
        if view.requests != first.requests:
            found.append(f"{name} sees {view.requests}, h11 {first.requests}")
    return first, found

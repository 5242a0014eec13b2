"""Our own raw requests, by the part of HTTP that they bend: what `docs/security.md` lists under P, H and N."""

from support.corpora import Case

CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\n"
TE = b"Transfer-Encoding: chunked\r\n"


def _cases(tier: str, must: str, raws: list[bytes]) -> list[Case]:
    return [Case(f"{tier}/{must or 'either'}/{number}", "own", tier, raw, must) for number, raw in enumerate(raws)]


def _post(*fields: bytes, body: bytes = CHUNKS) -> bytes:
    return POST + b"".join(fields) + b"\r\n" + body


def _get(*fields: bytes, target: bytes = b"/g") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(fields) + b"\r\n"


def _both_lengths() -> list[Case]:
    """P1: both framings at once. Either is right to refuse, or to read chunks and forget the length."""
    lengths = [b"Content-Length: %d\r\n" % length for length in (0, 3, 5, 15, 1000)]
    return _cases("P1", "", [_post(TE, length) for length in lengths] + [_post(length, TE) for length in lengths])


def _codings() -> list[Case]:
    """P2, P3: everything that is not exactly one `chunked` in HTTP/1.1."""
    values = b"chunked,chunked|chunked, chunked|cow, chunked|cow,chunked|,chunked|chunked,|chunked,,|identity|identity, chunked|chunked, identity"
    values += b"|chunked;x=1|chunked ;|chunked;|gzip|gzip, chunked|x-chunked|chunke|chunkedd|xchunked|'chunked'|\"chunked\"|chunked chunked|ch unked"
    values += b"|chunked\x01|\x01chunked|chunked\x7f|chun\x00ked|chunked\x0b|\x0bchunked|chunked\x0c|\x85chunked|\xa0chunked|chunked\xff|[chunked]|chunked\\|\\chunked"
    refused = [_post(b"Transfer-Encoding: " + value + b"\r\n") for value in values.split(b"|")]
    refused += [_post(b"Transfer-Encoding:\r\n"), _post(TE, TE), _post(TE, b"Transfer-Encoding: identity\r\n")]
    refused += [_post(b"Transfer-Encoding: identity\r\n", TE), _post(TE, b"Transfer-Encoding:\r\n"), _post(b"Transfer-Encoding: cow\r\n", TE)]
    refused += [_post(name + b": chunked\r\n") for name in (b"Transfer-Encoding ", b"Transfer-Encoding\t", b" Transfer-Encoding", b"Transfer-Encoding\x0b", b"Transfer-Encoding\x00", b"Transfer Encoding", b"\xa0Transfer-Encoding", b"Transfer-Encoding\x7f", b":Transfer-Encoding")]
    refused += [_post(b"Transfer-Encoding:\r\n chunked\r\n"), _post(b"Transfer-Encoding: x\r\n chunked\r\n"), _post(b"X: 1\r\n" + b" " + TE), _post(b"Transfer-Encoding : chunked\r\n", b"Content-Length: 15\r\n"), _post(b"X: 1\rTransfer-Encoding: chunked\r\n")]
    refused += [_post(TE).replace(b"HTTP/1.1", version) for version in (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0")]
    accepted = [_post(name + b": " + value + b"\r\n") for name in (b"Transfer-Encoding", b"transfer-encoding", b"tRANSFER-eNCODING") for value in (b"chunked", b"cHuNkeD", b"CHUNKED", b" chunked", b"\tchunked", b"chunked ")]
    return _cases("P2", "refused", refused) + _cases("P2", "forwarded", accepted)


def _lookalikes() -> list[Case]:
    """P2: names that a server behind could take for a framing header. They must not arrive, or change nothing."""
    names = [b"Transfer_Encoding", b"Transfer.Encoding", b"TRANSFER_ENCODING", b"X-Transfer-Encoding", b"Transfer--Encoding", b"Content_Length", b"Content.Length"]
    raws = [_post(name + b": " + value + b"\r\n", b"Content-Length: 15\r\n") for name in names for value in (b"chunked", b"3")]
    return _cases("P2 lookalike", "", raws + [_get(name + b": chunked\r\n") for name in names])


def _lengths() -> list[Case]:
    """P4."""
    values = b"+5|-1|-0|0x5|5,5|5, 5|5 5|5;5|5.0|5e0|1_000|\x0b5|5\x0b|5\x00|\x005|5\x7f|\xb2|\xef\xbc\x95|five|5a|a5|\"5\"|5\\|18446744073709551616|18446744073709551620|36893488147419103237|99999999999999999999999|,5|5,|--5|5-|0b11|0o5|5h|(5)"
    refused = [_post(b"Content-Length: " + value + b"\r\n", body=b"hello") for value in values.split(b"|")]
    refused += [_post(b"Content-Length:\r\n", body=b"hello"), _post(b"Content-Length: 5\r\nContent-Length: 6\r\n", body=b"hello!")]
    refused += [_post(b"Content-Length: 5\r\nContent-Length: 0\r\n", body=b"hello"), _post(b"Content-Length: 0\r\nContent-Length: 5\r\n", body=b"hello")]
    refused += [_post(b"Content-Length: 5\r\n\t5\r\n", body=b"hello"), _post(b"Content-Length: 5\r\n 0\r\n", body=b"hello")]
    refused += [_post(name + b": 5\r\n", body=b"hello") for name in (b"Content-Length ", b"Content-Length\t", b" Content-Length", b"Content-Length\x00", b"Content Length", b"Content-\x0bLength")]
    forwarded = [_post(b"Content-Length: " + value + b"\r\n", body=b"hello") for value in (b"5", b" 5", b"5 ", b"\t5", b"05", b"0005", b"00000000000000000000000000000005")]
    forwarded += [_post(b"Content-Length: 0\r\n", body=b""), _post(b"content-LENGTH: 5\r\n", body=b"hello"), _post(body=b"")]
    either = [_post(b"Content-Length: 5\r\nContent-Length: 5\r\n", body=b"hello"), _post(b"Content-Length: 5\r\nContent-Length: 05\r\n", body=b"hello")]
    return _cases("P4", "refused", refused) + _cases("P4", "forwarded", forwarded) + _cases("P4", "", either)


def _chunk_lines() -> list[Case]:
    """P5. What is refused may have begun to leave: the upstream must see it break off, never end."""
    sizes = b"0x5|+5|-5|_5|5_| 5|\t5||g|5g|5 5|5-|5\x00|\x005|5\x0b|5\x0c|\xef\xbc\x95|ffffffffffffffff5|10000000000000005|5:|5,|5=|0x|5\r;|5\r\r|(5)|\"5\"|5#|5.0"
    refused = [_post(TE, body=size + b"\r\nhello\r\n0\r\n\r\n") for size in sizes.split(b"|")]
    refused += [_post(TE, body=body) for body in (b"5\nhello\r\n0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello!\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\n\n", b"5\r\nhello\r\n0\r\n\n", b"5;a\nhello\r\n0\r\n\r\n", b"5;a\r hello\r\n0\r\n\r\n", b"5;a\rb\r\nhello\r\n0\r\n\r\n", b"\r\n5\r\nhello\r\n0\r\n\r\n", b"5;" + b"a" * 40_000 + b"\r\nhello\r\n0\r\n\r\n")]
    refused += [_post(TE, body=b"1;%s\r\nx\r\n" % (b"e" * 4096) * 12 + b"0\r\n\r\n")]
    refused += [_post(TE, body=b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n") for trailer in (b"X", b"X : 1", b" X: 1", b"X\x00: 1", b"X: \x00", b": 1", b"X: 1\r\n y", b"X: 1\nY: 2", b"X: " + b"v" * 70_000)]
    forwarded = [_post(TE, body=body) for body in (b"0\r\n\r\n", b"05\r\nhello\r\n0\r\n\r\n", b"0000000000000000000000005\r\nhello\r\n000\r\n\r\n", b"a\r\nhelloworld\r\n0\r\n\r\n", b"A\r\nhelloworld\r\n0\r\n\r\n", b"1\r\nx\r\n" * 300 + b"0\r\n\r\n", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: 1\r\nY: 2\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n")]
    # A server may be strict or not about these; ours reads them and writes its own. Behind a trailer that ends with a bare line
    # feed the rest is lost up to an empty line, and with it the request behind.
    either = [_post(TE, body=body) for body in (b"5\r\nhello\r\n0\r\nX: 1\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\t\r\nhello\r\n0\r\n\r\n", b"5;\r\nhello\r\n0\r\n\r\n", b"5;a=\"\r\nhello\r\n0\r\n\r\n", b"5;\x00\r\nhello\r\n0\r\n\r\n", b"5 ;a\r\nhello\r\n0\r\n\r\n", b"5;a=b;c=\"\\\"\"\r\nhello\r\n0\r\n\r\n", b"5;;;\r\nhello\r\n0\r\n\r\n", b"5;\xff\r\nhello\r\n0\r\n\r\n")]
    return _cases("P5", "refused", refused) + _cases("P5", "forwarded", forwarded) + _cases("P5", "", either)


def _line_ends() -> list[Case]:
    """P6: line feeds without a carriage return, and the reverse."""
    refused = [_get(b"X: 1\r\rTransfer-Encoding: chunked\r\n"), _get(b"X: 1\ry\r\n"), _get().replace(b"\r\n", b"\r"), _get(b"X: 1\r\r\n"), b"GET /g HTTP/1.1\rHost: a\r\n\r\n", b"\rGET /g HTTP/1.1\r\nHost: a\r\n\r\n"]
    either = [_get().replace(b"\r\n", b"\n"), _post(TE).replace(b"\r\nHost", b"\nHost"), POST + b"X: 1\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, POST + b"X: 1\nContent-Length: 15\r\n\r\n" + CHUNKS, POST + b"Content-Length: 5\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, POST + TE + b"\n" + CHUNKS, POST + b"Content-Length: 15\r\n\n" + CHUNKS, POST + b"Transfer-Encoding: chunked\n\n" + CHUNKS, b"GET /g HTTP/1.1\nHost: a\r\n\r\n", b"\n\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\n\r\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /g HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n"]
    return _cases("P6", "refused", refused) + _cases("P6", "", either)


def _bodies_of_others() -> list[Case]:
    """P7, P8: bodies where nobody expects one, and expectations."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(inner)
    methods = [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"PROPFIND", b"BREW", b"get"]
    heads = [method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n" for method in methods for target in (b"/p", b"/closed/p", b"/auth/me")]
    either = [head + length + inner for head in heads] + [head + TE + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner) for head in heads]
    expectations = [b"100-continue", b"100-Continue", b"y 100-continue", b"100-continue, x", b"200-ok", b"", b"100-continue\r\nExpect: x", b"100-continue\r\nExpect: 100-continue"]
    either += [_post(b"Expect: " + value + b"\r\n", framing, body=body) for value in expectations for framing, body in ((TE, CHUNKS), (b"Content-Length: 5\r\n", b"hello"), (b"", b""))]
    return _cases("P7", "", either)


def _request_lines() -> list[Case]:
    """P9."""
    tail = b"\r\nHost: a\r\n\r\n"
    lines = b"GET  /g HTTP/1.1|GET\t/g HTTP/1.1|GET /g\tHTTP/1.1|GET /g  HTTP/1.1|GET /g HTTP/1.1 |GET /g HTTP/1.1 x|GET /g HTTP/1.2|GET /g HTTP/9.9|GET /g HTTP/2.0|GET /g HTTP/0.9|GET /g|GET /g HTTP/1|GET /g HTTP/1.|GET /g HTTP/1.10|GET /g HTTP/01.1|GET /g http/1.1|GET /g XTTP/1.1|GET /g HTTP 1.1|GET /g HTTP/1,1| GET /g HTTP/1.1|\tGET /g HTTP/1.1|G\x00T /g HTTP/1.1|G=\":<>\" /g HTTP/1.1|G(T /g HTTP/1.1|GET /g\x00 HTTP/1.1|GET /g\x0bx HTTP/1.1|GET /g\xa0 HTTP/1.1|GET HTTP/1.1|GET|HTTP/1.1 200 OK|GET /g x HTTP/1.1|GET /g HTTP/1.1 HTTP/1.1"
    refused = [line + tail for line in lines.split(b"|")]
    refused += [b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + _get(), b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x09\x00\x0a" + _get(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40, b"PRI * HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 18]
    forwarded = [b"get /g HTTP/1.1" + tail, b"Get /g HTTP/1.1" + tail, b"BREW /g HTTP/1.1" + tail, b"M-SEARCH /g HTTP/1.1" + tail, b"GET /g HTTP/1.0" + tail]
    return _cases("P9", "refused", refused) + _cases("P9", "", forwarded)


def _hosts() -> list[Case]:
    """P10, P11, N4."""
    values = [b"", b"a,b", b"a, b", b"u@a", b"u:p@a", b"a/b", b"a b", b"a" * 300, b"[::1", b"[::1]x", b"[zz]", b"a:99999", b"a:+80", b"a:8 0", b"a:b", b":80", b".", b"a=b", b"a?b", b"a#b", b"a\\b", b"a%00b", b"\xe4.example", b"a\tb", b"http://a", b"a;b", b"a'b", b"a\"b"]
    refused = [b"GET /g HTTP/1.1\r\nHost: " + value + b"\r\n\r\n" for value in values]
    refused += [b"GET /g HTTP/1.1\r\n\r\n", b"GET /g HTTP/1.0\r\n\r\n", b"GET /g HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", b"GET /g HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /g HTTP/1.1\r\nHost : a\r\n\r\n", b"GET /g HTTP/1.1\r\n Host: a\r\n\r\n", b"GET /g HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", b"GET http://b/g HTTP/1.1\r\nX: 1\r\n\r\n"]
    targets = [b"http://b/g", b"https://a/g", b"ftp://a/g", b"http://u@a/g", b"http:///g", b"http://a:81/g", b"http:/a/g", b"//b/g", b"a:80", b"b", b"g", b"*", b"a/g", b"?x", b"#x", b"http://a@b/g", b"http://a\\@b/g", b"", b"http://", b"file:///etc/passwd", b"http://a,b/g"]
    refused += [_get(target=target) for target in targets] + [method + b" /g HTTP/1.1\r\nHost: a\r\n\r\n" for method in (b"CONNECT", b"TRACE")]
    refused += [b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"TRACK /g HTTP/1.1\r\nHost:\r\n\r\n"]
    forwarded = [b"GET /g HTTP/1.1\r\nHost: " + value + b"\r\n\r\n" for value in (b"a", b"A", b"a.", b"a:80", b"a:1", b"[::1]", b"[::1]:8080", b"127.0.0.1", b"xn--bcher-kva.example", b" a", b"a_b")]
    forwarded += [_get(target=b"http://a/g"), _get(target=b"HTTP://A/g"), _get(target=b"http://a:80/g"), _get(target=b"http://a/g?x=1"), _get(target=b"http://a")]
    return _cases("P10", "refused", refused) + _cases("P10", "forwarded", forwarded)


def _headers() -> list[Case]:
    """H: names and values that parsers cut in different places, and many of them."""
    fields = [b"X\x00: 1", b"X: \x00", b"X: a\x00b", b"X: \x7f", b"X: \x01", b"X\xe4: 1", b": 1", b"X : 1", b"X\t: 1", b" X: 1", b"\tX: 1", b"X: 1\r\n y", b"X: 1\r\n\ty", b"X", b"X 1", b"X=1", b"(X): 1", b"\"X\": 1", b"X/Y: 1", b"{X}: 1", b"X@Y: 1", b"X\\Y: 1", b"X,Y: 1", b"X;Y: 1", b"X[0]: 1", b"X: \x1b[31m", b"=: 1 \x08"]
    refused = [_get(field + b"\r\n") for field in fields if field != b"=: 1 \x08"] + [_get(b"X: 1\r\n" * 101), _get(b"X: " + b"v" * 70_000 + b"\r\n"), _get(b"X: %s\r\n" % (b"v" * 4000) * 70), _get(target=b"/" + b"a" * 66_000), _get(target=b"/" + b"a" * 9000)]
    names = [b"X-Forwarded-User", b"X_Forwarded_User", b"X.Forwarded.User", b"x-forwarded_user", b"X-FORWARDED-GROUPS", b"X-Real-IP", b"X-Original-URL", b"X-Rewrite-URL", b"X-HTTP-Method-Override", b"X-Forwarded-Uri", b"Forwarded", b"Upgrade", b"HTTP2-Settings", b"TE", b"Trailer", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authorization"]
    forwarded = [_get(name + b": evil\r\n") for name in names] + [_get(b"Connection: " + value + b"\r\n", b"X-Sent: 1\r\n") for value in (b"X-Sent", b"keep-alive, X-Sent", b"Host", b"Content-Length", b"Transfer-Encoding", b"X-Forwarded-For, X-Request-Id", b",,", b"upgrade")]
    forwarded += [_post(b"Connection: Content-Length\r\n", b"Content-Length: 15\r\n"), _post(b"Connection: Transfer-Encoding\r\n", TE), _get(b"X: \xe4\xff\r\n"), _get(b"X:\r\n"), _get(b"X:1\r\n"), _get(b"X: \t 1 \t \r\n"), _get(b"X: 1\r\n" * 90), _get(b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), _get(b"!#$%&'*+-.^_`|~: 1\r\n")]
    return _cases("H", "refused", refused) + _cases("H", "forwarded", forwarded)


# Spellings of one path: for each what is before and what is after the trick.
PATHS = [b"/..", b"/../x", b"/%2e%2e/x", b"/%2e%2e%2fx", b"/..%2fx", b"/..%2Fx", b"/.%2e/x", b"/%2e./x", b"/..;/x", b"/.;/x", b"/..;a=1/x", b"//x", b"///x", b"/./x", b"/%2e/x", b"/.", b"/\\x", b"/..\\x", b"/%5cx", b"/..%5cx", b"/%00", b"/x%00", b"/x;a=1", b"/;/x", b"/%3b/x", b"/..%3b/x", b"/x%2f..%2fy", b"/%252e%252e/x", b"/%252f", b"/%25%32%65", b"/%c0%ae%c0%ae/x", b"/%c0%af", b"/%ff", b"/%u002e", b"/%", b"/%2", b"/%zz", b"/x%0d%0ay", b"/x%0a", b"/x\x80", b"/<x>", b"/x\"y", b"/%7f", b"/\xe2\x80\xa5/x"]
KEPT_PATHS = [b"/x", b"/x/", b"/x.", b"/...", b"/.x", b"/x%20y", b"/%61", b"/%41%7E", b"/%e4%b8%ad", b"/%E4%b8%AD", b"/a+b", b"/a:b@c", b"/x%3By", b"/x%23y", b"/x%3Fy", b"/[x]{y}|^", b"/!$&'()*,=", b"/X", b"/x?a=../..", b"/x?%2e%2e//;\\", b"/x??", b"/x?", b"/x%25", b"/x#y", b"/" + b"a" * 3000]


def _paths() -> list[Case]:
    """N1: what two servers could read differently is refused, the rest arrives in one spelling."""
    refused = [_get(target=before + path) for path in PATHS for before in (b"", b"/public", b"/closed")]
    refused += [_get(target=b"/public" + path.replace(b"x", b"closed/x")) for path in PATHS if b"x" in path]
    return _cases("N1", "refused", refused) + _cases("N1", "forwarded", [_get(target=path) for path in KEPT_PATHS])


def own() -> list[Case]:
    """All of them."""
    groups = [_both_lengths, _codings, _lookalikes, _lengths, _chunk_lines, _line_ends, _bodies_of_others, _request_lines, _hosts, _headers, _paths]
    return [case for group in groups for case in group()]

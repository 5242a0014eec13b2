"""The re-parse oracle: three parsers read what the upstream received, and must see what the gateway says it forwarded."""

import collections
import concurrent.futures
import dataclasses
import os
import posixpath
import re
import socket
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from support import corpora, framing_cases
from support.config import base, route, upstream
from support.processes import ROOT, Gateway, eventually
from support.recorder import Recorder
from support.reparse import Seen, differences

LANES = 6
LIMITS = 'workers = 1\nheader_timeout = "2s"\nbody_timeout = "1s"\n'
# How long a client waits for an answer that may not come, because the case is half a request to the gateway.
SILENCE = 0.35


@dataclasses.dataclass
class Outcome:
    """What became of one case."""

    case: corpora.Case
    statuses: list[int]
    requests: list[Seen]
    ids: list[str]
    broken_off: bool
    differences: list[str]

    @property
    def forwarded(self) -> bool:
        return self.broken_off or any(not seen.target.startswith(b"/marker/") for seen in self.requests)


class Lane:
    """A gateway before an upstream of its own, used by one case at a time."""

    def __init__(self, gateway: Gateway, recorder: Recorder) -> None:
        self.gateway, self.recorder, self.outcomes = gateway, recorder, []

    def run(self, cases: list[corpora.Case]) -> None:
        for number, case in enumerate(cases):
            self.outcomes.append(self.judge(case, number))

    def judge(self, case: corpora.Case, number: int) -> Outcome:
        """Sends a case with a second request behind it, and looks at what the upstream got of both."""
        marker = f"/marker/{number}".encode()
        mark = self.recorder.mark()
        pieces = 4 if case.tier.endswith("in pieces") else 1
        received = exchange(self.gateway.port, pieces, 10 if case.must else SILENCE, case.raw + b"GET " + marker + b" HTTP/1.1\r\nHost: marker\r\nConnection: close\r\n\r\n")
        eventually("the gateway to have no request in work", lambda: in_flight(self.gateway) == 0)
        # A half of a request on a connection that is kept would be waited for in vain.
        self.recorder.wait_until_quiet(case.name)
        views = [differences(data) for data in self.recorder.since(mark)]
        found = [difference for _, differing in views for difference in differing]
        requests = [seen for view, _ in views for seen in view.requests]
        if sum(seen.target == marker for seen in requests) > 1:
            found.append("the request behind it arrived twice")
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d) ", received)]
        ids = [id for view, _ in views for id in view.ids]
        return Outcome(case, statuses, requests, ids, any(view.rest for view, _ in views), found)


def exchange(port: int, pieces: int, patience: float, raw: bytes) -> bytes:
    """Sends bytes and takes what comes until the end, or until nothing has come for as long as the patience lasts."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(raw) // pieces)
        try:
            for start in range(0, len(raw), size):
                client.sendall(raw[start : start + size])
                time.sleep(0.002 if pieces > 1 else 0)
            client.settimeout(patience)
            while block := client.recv(65_536):
                received += block
        except OSError:
            pass  # The gateway may close while the case is sent, or wait for more of it.
    return received


def in_flight(gateway: Gateway) -> float:
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=10) as page:
        return float(re.search(rb"^tollgate_requests_in_flight (\S+)$", page.read(), re.MULTILINE)[1])


@pytest.fixture(scope="module")
def lanes(module_gateway):
    """All cases, run."""
    recorders = [Recorder() for _ in range(LANES)]
    made = []
    for recorder in recorders:
        config = base("{folder}").replace("[server]", "[server]\n" + LIMITS) + upstream("app", recorder.url)
        config += route("/{*rest}", "app", 'auth = "public"') + route("/closed/{*rest}", "app")
        made.append(Lane(module_gateway(config), recorder))
    own = framing_cases.own()
    # A head that comes in pieces takes another way through the parser than one that comes at once.
    cases = corpora.gunicorn() + corpora.guardian() + own
    cases += [dataclasses.replace(case, tier=f"{case.tier} in pieces") for case in own]
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        for done in [pool.submit(lane.run, cases[index::LANES]) for index, lane in enumerate(made)]:
            done.result()
    yield made
    for recorder in recorders:
        recorder.stop()


@pytest.fixture(scope="module")
def outcomes(lanes):
    return [outcome for lane in lanes for outcome in lane.outcomes]


def listed(outcomes: list[Outcome]) -> str:
    shown = [f"{outcome.case.corpus} {outcome.case.name}: {outcome.case.raw[:200]!r} -> {outcome.statuses}, {outcome.differences}, {outcome.requests}" for outcome in outcomes]
    return f"{len(shown)} cases:\n" + "\n".join(shown[:40])


def test_all_parsers_see_the_same_requests(outcomes):
    differing = [outcome for outcome in outcomes if outcome.differences]
    assert not differing, listed(differing)


def test_what_must_be_refused_does_not_reach_the_upstream_as_a_request(outcomes):
    passed = [outcome for outcome in outcomes if outcome.case.must == "refused" and outcome.forwarded and not broke_off_alone(outcome)]
    assert not passed, listed(passed)


def broke_off_alone(outcome: Outcome) -> bool:
    """A body is read while it is forwarded, so what is wrong with it may be found when its head has left: never its end."""
    return outcome.case.tier.startswith("P5") and all(seen.target.startswith(b"/marker/") for seen in outcome.requests)


def test_nothing_severe_is_forwarded(outcomes):
    severe = [outcome for outcome in outcomes if outcome.case.tier == "Severe"]
    assert len(severe) >= 58
    assert not [outcome for outcome in severe if outcome.forwarded], listed([outcome for outcome in severe if outcome.forwarded])


def test_what_is_good_is_forwarded(outcomes):
    lost = [outcome for outcome in outcomes if outcome.case.must == "forwarded" and (not outcome.forwarded or outcome.broken_off)]
    assert not lost, listed(lost)


def test_a_body_that_nobody_expects_arrives_as_it_was_sent(outcomes):
    """The parsers compare what arrived; here it is held against what was sent. A GET must not lose its body on the way."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    bodies = [(outcome, seen) for outcome in outcomes if inner in outcome.case.raw for seen in outcome.requests if seen.target == b"/p"]
    assert len({seen.method for _, seen in bodies}) >= 8 and sum(b"hunked" in outcome.case.raw for outcome, _ in bodies) >= 8
    lost = [outcome for outcome, seen in bodies if seen.body != inner]
    assert not lost, listed(lost)


def test_what_must_be_refused_is_told_so(outcomes):
    # Who goes on sending to a connection that is closed may lose its answer.
    whole = [outcome for outcome in outcomes if outcome.case.must == "refused" and not outcome.case.tier.endswith("in pieces")]
    untold = [outcome for outcome in whole if not (outcome.statuses and outcome.statuses[0] >= 400)]
    assert not untold, listed(untold)


def nginx(path: str) -> str:
    return posixpath.normpath(re.sub("/+", "/", urllib.parse.unquote(path, "latin-1")))


def tomcat(path: str) -> str:
    return posixpath.normpath(urllib.parse.unquote(re.sub(";[^/]*", "", path), "latin-1").replace("\\", "/"))


def node(path: str) -> str:
    return posixpath.normpath(re.sub("%2e", ".", path, flags=re.IGNORECASE).replace("\\", "/"))


def twice(path: str) -> str:
    return nginx(urllib.parse.unquote(path, "latin-1"))


def test_no_server_finds_a_closed_path_in_what_was_let_through(outcomes):
    """No case has a token, so nothing below `/closed` may arrive, however a server decodes and cleans the path."""
    for outcome in outcomes:
        for request in outcome.requests:
            path = request.target.decode("latin-1").partition("?")[0]
            for server in (nginx, tomcat, node, twice):
                assert not re.match("/+closed(/|$)", server(path), re.IGNORECASE), (server.__name__, outcome.case, path)


@pytest.mark.parametrize(
    "raw",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow, chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"\n\r\nhello\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nsmuggled",
    ],
)
def test_the_oracle_notices_what_a_careless_gateway_would_forward(raw):
    view, found = differences(raw)
    assert found or view.rest


def test_the_log_and_the_upstream_agree(lanes):
    for lane in lanes:
        seen = {id: request for outcome in lane.outcomes for id, request in zip(outcome.ids, outcome.requests)}
        total = sum(len(outcome.ids) for outcome in lane.outcomes)
        assert len(seen) == total, "two requests have one id"
        answered = lambda: {line["request.id"]: line for line in lane.gateway.access_lines() if "upstream.status" in line}
        eventually("an access line for each request", lambda: len(answered()) >= total)
        lines = answered()
        assert lines.keys() == seen.keys(), "the gateway took an answer to what was no request, or the reverse"
        for id, request in seen.items():
            path = request.target.decode("latin-1").partition("?")[0]
            assert (lines[id]["method"], normal(lines[id]["path"])[:2000]) == (request.method.decode("latin-1"), path[:2000])


def normal(path: str) -> str:
    """RFC 3986 section 6.2.2: the log has the path as it was sent."""
    unreserved = re.compile(r"[A-Za-z0-9._~-]")

    def one(found: re.Match) -> str:
        character = chr(int(found[1], 16))
        return character if unreserved.fullmatch(character) else found[0].upper()

    return re.sub(r"%([0-9A-Fa-f]{2})", one, path)


def test_each_connection_as_a_whole_reads_the_same(lanes):
    for lane in lanes:
        for recorded in lane.recorder.connections:
            _, found = differences(bytes(recorded.data))
            assert not found, found


def test_the_table(outcomes, capsys):
    """Printed for whoever reads the run, and kept beside its logs. A case is sent more than once: as it is, with a Host, in pieces."""
    rows = collections.defaultdict(list)
    for outcome in outcomes:
        rows[outcome.case.corpus, outcome.case.tier.removesuffix(" in pieces")].append(outcome)
    line = "{:<22}{:<14}{:>7}{:>7}{:>9}{:>12}{:>11}{:>13}".format
    lines = [line("corpus", "tier", "cases", "sent", "refused", "broken off", "forwarded", "differences")]
    totals = [0] * 6
    for (corpus, tier), found in rows.items():
        broken = sum(outcome.broken_off for outcome in found)
        forwarded = sum(outcome.forwarded and not outcome.broken_off for outcome in found)
        cases = len({outcome.case.name.removesuffix(" + Host") for outcome in found})
        row = [cases, len(found), len(found) - forwarded - broken, broken, forwarded, sum(bool(outcome.differences) for outcome in found)]
        totals = [before + more for before, more in zip(totals, row)]
        lines.append(line(corpus, tier, *row))
    table = "\n".join([*lines, line("all", "", *totals)])
    logs = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "test-logs"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "framing.txt").write_text(table + "\n")
    with capsys.disabled():
        print(f"\n{table}")
    assert totals[0] >= 62 + 81 + 159 + 150 and totals[-1] == 0

"""Cases of others: gunicorn's requests and http_desync_guardian's, which `scripts/test` fetches into .cache/corpora."""

import dataclasses
import os
import re
from pathlib import Path

import yaml

from support.processes import ROOT


@dataclasses.dataclass(frozen=True)
class Case:
    """Bytes to send, and what has to become of them: `refused`, `forwarded`, or either when it is empty."""

    name: str
    corpus: str
    tier: str
    raw: bytes
    must: str = ""


def folder(name: str) -> Path:
    place = Path(os.environ.get("TOLLGATE_TEST_CORPORA") or ROOT / ".cache" / "corpora") / name
    assert place.is_dir(), f"no corpus at {place}: scripts/test fetches it, or set TOLLGATE_TEST_CORPORA"
    return place


def with_host(case: Case) -> list[Case]:
    """The case, and once more with a Host where it has none: without one it is refused before its framing counts."""
    if re.search(rb"(?im)^host[ \t]*:", case.raw):
        return [case]
    line, end, rest = case.raw.partition(b"\r\n")
    if not end:
        return [case]
    return [case, dataclasses.replace(case, name=f"{case.name} + Host", raw=line + b"\r\nHost: a" + end + rest)]


def gunicorn() -> list[Case]:
    """What is sent stands in its files as escapes; the line ends of a file are for the reader only."""
    cases = []
    for tier in ("valid", "invalid"):
        files = sorted(folder("gunicorn").glob(f"{tier}/*.http"))
        assert files, "gunicorn's corpus is empty"
        for file in files:
            text = unescaped(file.read_bytes().replace(b"\n", b"").decode("latin-1"))
            cases += with_host(Case(f"{tier}/{file.stem}", "gunicorn", tier, text.encode("latin-1")))
    return cases


def guardian() -> list[Case]:
    """Heads only, in its own notation; each gets a body that is whole as chunks and as 15 bytes."""
    cases = []
    files = sorted(folder("http_desync_guardian").glob("*.yaml"))
    assert files, "http_desync_guardian's corpus is empty"
    for file in files:
        for number, entry in enumerate(yaml.safe_load(file.read_text()) or []):
            tier = entry["expected"]["tier"]
            line = " ".join(part for part in (entry["method"], entry["uri"], entry["version"]) if part)
            fields = "".join(f"{header['name']}: {header['value']}\r\n" for header in entry["headers"] or [])
            raw = octets(unescaped(f"{line}\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n"))
            must = "refused" if tier == "Severe" else ""
            cases += with_host(Case(f"{file.stem}/{number} {entry['name']}", "http_desync_guardian", tier, raw, must))
    return cases


def unescaped(text: str) -> str:
    """Both corpora write bytes that an editor would spoil as backslash escapes."""
    named = {"r": "\r", "n": "\n", "t": "\t", "b": "\b", "f": "\f", "0": "\0"}
    one = lambda found: chr(int(found[1], 16)) if found[1] else named.get(found[2], found[2])
    return re.sub(r"\\(?:x([0-9A-Fa-f]{2})|(.))", one, text, flags=re.DOTALL)


def octets(text: str) -> bytes:
    """Each character as the byte of its number, or as UTF-8 where there is none."""
    return b"".join(character.encode("latin-1" if ord(character) < 256 else "utf-8") for character in text)

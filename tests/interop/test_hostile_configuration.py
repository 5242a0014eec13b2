"""C1: configuration files that are hostile or no files at all: refused quickly, in bounded memory, with a message."""

import os
import re
import resource
import subprocess
import time

import pytest

from support.config import base
from support.processes import gateway_program, tollgate

# An unoptimized program on a machine that is busy with other tests; most cases take some milliseconds.
LONGEST = 20
MOST_MEMORY = 512 * 2**20


def check(file, command="check", environment=None):
    """Runs a command on the file within bounds of time and memory, and gives what it said."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    done = subprocess.run(
        [gateway_program(), command, "-c", file],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        preexec_fn=limit,
        env={**os.environ, **(environment or {})},
    )
    said = done.stdout + done.stderr
    assert "panicked" not in said and "memory allocation" not in said, said[:2000]
    return done.returncode, said


def assert_refused(file, *patterns, environment=None):
    for command in ("check", "run"):
        status, said = check(file, command, environment)
        assert status == 1, said[:2000]
        for pattern in patterns:
            assert re.search(pattern, said), said[:2000]


UPSTREAM = '[upstreams.a]\nservers = ["http://127.0.0.1:1"]\n'
MISTAKES = {
    "an unknown key": ("[server]\nlisten_on = []\n", r"`server.listen_on`", r":2:1"),
    "a key twice": ("[server]\nworkers = 1\nworkers = 2\n", "duplicate key", r":3:1"),
    "a wrong type": ("[server]\nworkers = true\n", r"`server.workers`", r":2:11"),
    "a negative duration": ('[tokens]\nleeway = "-1s"\n', r"`tokens.leeway`", r":2:10"),
    "a huge duration": ('[tokens]\nleeway = "99999999999999999999d"\n', r"`tokens.leeway`", r":2:10"),
    "a server with a path": ('[upstreams.a]\nservers = ["http://h:1/x"]\n', r"`upstreams.a.servers\[0\]`", r":2:12"),
    "a server with a user": ('[upstreams.a]\nservers = ["http://u:p@h:1"]\n', r"`upstreams.a.servers\[0\]`", r":2:12"),
    "routes that overlap": (
        UPSTREAM + '[[routes]]\npath = "/{a}"\nupstream = "a"\n[[routes]]\npath = "/{b}"\nupstream = "a"\n',
        "equal right",
        r":7:8",
    ),
    "a secret that is not set": (
        '[issuers.a]\nissuer = "a"\naudiences = ["b"]\nalgorithms = ["HS256"]\nsecret = { env = "NOT_SET_ANYWHERE" }\n',
        "`NOT_SET_ANYWHERE`",
        r":5:18",
    ),
    "a secret that is empty": (
        '[issuers.a]\nissuer = "a"\naudiences = ["b"]\nalgorithms = ["HS256"]\nsecret = { env = "EMPTY" }\n',
        "empty secret",
        r":5:",
    ),
    "a file that includes itself": ('include = ["tollgate.toml"]\n', "`include`", r":1:1"),
    "an included file that is not there": ('include = ["nowhere.toml"]\n', "nowhere.toml", r":1:12"),
    "an included file that includes": ('include = ["other.toml"]\n', "`include`", r"other.toml:1:1"),
    "an included pipe": ('include = ["*.pipe"]\n', "not a file", r":1:12"),
    "an included folder": ('include = ["folder"]\n', "folder", r":1:12"),
    "a secret from a pipe": ('[tokens]\nkey = { file = "secret.pipe" }\n', "not a file", r":2:16"),
    "a secret from a device": ('[tokens]\nkey = { file = "/dev/zero" }\n', "not a file", r":2:16"),
    "a line without an end": ('[server]\nlisten = ["127.0.0.1:0"\n', "expected", r":\d+:\d+"),
    "a mark in the middle": ("[server]\n\ufeffworkers = 1\n", "invalid", r":2:1"),
    "another encoding's mark": ("\ufffe[server]\n", "invalid", r":1:1"),
    "control characters": ("[server]\nwork\x1b[31mers = 1\n", "invalid", r":2:"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_with_its_key_and_its_line(name, tmp_path):
    text, *patterns = MISTAKES[name]
    os.mkfifo(tmp_path / "secret.pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.toml").write_text('include = ["tollgate.toml"]\n')
    file = tmp_path / "tollgate.toml"
    file.write_text(text, encoding="utf-8")
    assert_refused(file, *patterns, environment={"EMPTY": ""})
    assert "\x1b" not in check(file)[1]


def test_what_is_no_file_of_ours_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-zero").symlink_to("/dev/zero")
    (tmp_path / "to-itself").symlink_to("to-itself")
    (tmp_path / "to-nowhere").symlink_to("nowhere")
    with (tmp_path / "large").open("wb") as large:
        large.write(b"# 100 MB of a comment\n" * 4_800_000)
    (tmp_path / "latin").write_bytes(b"[server]\n# caf\xe9\n")
    (tmp_path / "wide").write_bytes("[server]\n".encode("utf-16"))
    for name, pattern in {
        "pipe": "not a file",
        "folder": "folder",
        "to-zero": "not a file",
        "to-itself": "symbolic links",
        "to-nowhere": "no such file",
        "missing": "no such file",
        "large": "longer than 1048576 bytes",
        "latin": "not UTF-8 text: line 2",
        "wide": "not UTF-8",
    }.items():
        began = time.monotonic()
        assert_refused(tmp_path / name, pattern, name)
        assert time.monotonic() - began < 5, name


def test_a_link_and_a_byte_order_mark_change_nothing(tmp_path):
    real = tmp_path / "elsewhere" / "real.toml"
    real.parent.mkdir()
    real.write_text("\ufeff" + base(tmp_path), encoding="utf-8")
    (tmp_path / "link.toml").symlink_to(real)
    shown = [tollgate("config", "show", "-c", file) for file in (real, tmp_path / "link.toml")]
    assert [done.returncode for done in shown] == [0, 0]
    assert shown[0].stdout == shown[1].stdout


LARGE = {
    "unknown keys": "".join(f"x{number} = 1\n" for number in range(80_000)),
    "unknown keys in one line": "server = {" + ",".join(f"x{number}=1" for number in range(80_000)) + "}\n",
    "lines that are no TOML": "= =\n" * 100_000,
    "routes without anything": "[[routes]]\n" * 80_000,
    "routes of one path": UPSTREAM + '[[routes]]\npath = "/r"\nupstream = "a"\n' * 20_000,
    "routes to nobody": UPSTREAM + "".join(f'[[routes]]\npath = "/{n}"\nupstream = "b"\n' for n in range(20_000)),
    "open brackets": "a = " + "[" * 500_000,
    "a key of many parts": "a" + ".a" * 500_000 + " = 1\n",
    "a name of a megabyte": "[" + "a" * 1_000_000,
    "backslashes": 'a = "' + "\\" * 1_000_000 + "\n",
    "a list": UPSTREAM + '[[routes]]\npath = "/a"\nupstream = "a"\nscopes = [' + '"s",' * 200_000 + "]\n",
    "quotation marks": '"""\n' * 100_000 + "x = 1\n",
}


@pytest.mark.parametrize("name", LARGE)
def test_a_megabyte_of_mistakes_is_refused_in_bounded_time_and_memory(name, tmp_path):
    file = tmp_path / "tollgate.toml"
    file.write_text(LARGE[name])
    began = time.monotonic()
    status, said = check(file)
    print(f"{name}: {time.monotonic() - began:.1f} s, {len(said)} characters")
    assert status == 1
    assert re.search(r"tollgate\.toml:\d+:\d+", said), said[:500]
    assert len(said) < 100_000, "nobody reads more"


def test_included_files_are_bounded_together(tmp_path):
    (tmp_path / "routes.d").mkdir()
    for number in range(40):
        (tmp_path / "routes.d" / f"{number}.toml").write_text("#" * 1_000_000)
    file = tmp_path / "tollgate.toml"
    file.write_text('include = ["routes.d/*.toml"]\n')
    assert_refused(file, "longer than 8388608 bytes together", r":1:12")


def test_a_route_that_does_not_say_who_may_use_it_is_protected(tmp_path):
    file = tmp_path / "tollgate.toml"
    file.write_text(base(tmp_path) + UPSTREAM + '[[routes]]\npath = "/a"\nupstream = "a"\n')
    shown = tollgate("config", "show", "--json", "-c", file)
    assert '"auth": "required"' in shown.stdout, shown

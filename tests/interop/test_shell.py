"""Completions and manual pages, by the programs that read them: bash, and groff as man uses it."""

import re
import shutil
import subprocess

from support.processes import tollgate

COMMANDS = ["run", "demo", "check", "explain", "user", "session", "key", "token", "config", "healthcheck", "completions", "man"]
# As bash calls the function that a script registers: the command, the word, the word before it.
FUNCTION = '_tollgate tollgate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"'


def test_bash_completes_commands_and_options(tmp_path):
    """The script is sourced by a real bash, which asks it what may come next."""
    script = tmp_path / "tollgate.bash"
    script.write_text(tollgate("completions", "bash").stdout)

    def completed(*words: str) -> set[str]:
        ask = f'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {FUNCTION}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        command = ["bash", "--norc", "-euc", ask, "bash", script, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done
        return set(done.stdout.split())

    assert set(COMMANDS) <= completed("tollgate", "")
    assert completed("tollgate", "che") == {"check"}
    assert {"--connect", "--config"} <= completed("tollgate", "check", "--")
    assert {"default", "schema", "show"} <= completed("tollgate", "config", "")


def test_there_are_completions_for_every_shell_and_an_error_for_others(tmp_path):
    """Each names every command."""
    for shell in ("bash", "elvish", "fish", "powershell", "zsh"):
        done = tollgate("completions", shell)
        assert done.returncode == 0, done
        for command in COMMANDS:
            assert re.search(rf"\b{command}\b", done.stdout), (shell, command)
        # Where the shell is at hand, it reads its script, too: what it cannot parse is an error.
        if shell in ("bash", "fish", "zsh") and shutil.which(shell):
            script = tmp_path / shell
            script.write_text(done.stdout)
            parsed = subprocess.run([shell, "-n", script], capture_output=True, text=True, timeout=30)
            assert (parsed.returncode, parsed.stderr) == (0, ""), (shell, parsed.stderr)
            print(f"{shell} parses its completions")
    assert tollgate("completions", "csh").returncode == 2


def test_every_command_has_a_manual_page_that_man_can_show(tmp_path):
    """groff warns of nothing, and each page has its name and its options."""
    assert shutil.which("groff"), "no groff: apt-get install groff-base"
    assert tollgate("man", "--folder", tmp_path).returncode == 0
    pages = {page.stem: page for page in tmp_path.glob("*.1")}
    assert {"tollgate", *(f"tollgate-{command}" for command in COMMANDS), "tollgate-user-add", "tollgate-session-revoke"} <= set(pages)
    for name, page in pages.items():
        command = ["groff", "-man", "-Tascii", "-ww", "-P-c", page]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, ""), (name, done.stderr)
        text = re.sub(r".\x08", "", done.stdout)
        assert re.search(rf"NAME\s+{name}\s+-", text) and "--help" in text, (name, text)
    assert "--connect" in pages["tollgate-check"].read_text().replace("\\-", "-")
    assert tollgate("man").stdout == pages["tollgate"].read_text()


def test_pages_that_cannot_be_written_are_an_error(tmp_path):
    """With the folder and the reason."""
    done = tollgate("man", "--folder", tmp_path / "none")
    assert done.returncode == 1 and "cannot write manual pages into" in done.stderr

"""A browser, the page that it shows, and a relay that lets requests meet."""

import hashlib
import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from .processes import INTEROP, ROOT

PACKAGES = ROOT / ".cache" / "browser"
PAGE = INTEROP / "browser"


def chromium_program():
    program = os.environ.get("TOLLGATE_TEST_CHROMIUM") or shutil.which("chromium")
    assert program, "no chromium: use scripts/test, which brings one, or set TOLLGATE_TEST_CHROMIUM"
    return program


def bundle(folder: Path):
    """The pages in one folder: index.jsx with the packages of package-lock.json, which scripts/test installs; and one with
    nothing on it, beside session.js."""
    lock = hashlib.sha256((PAGE / "package-lock.json").read_bytes()).hexdigest()
    installed = PACKAGES / "installed.sha256"
    assert installed.is_file() and installed.read_text().strip() == lock, "the npm packages are not those: use scripts/test"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PAGE / "index.html", folder)
    shutil.copy(PAGE / "session.js", folder)
    (folder / "plain.html").write_text("<!doctype html><title>Plain</title>")
    command = [PACKAGES / "node_modules/.bin/esbuild", PAGE / "index.jsx", "--bundle", "--minify", "--loader:.js=jsx", "--log-level=error"]
    # What the bundlers of the package's time gave it: it writes to `global.console`.
    known = ['--define:process.env.NODE_ENV="production"', "--define:global=window"]
    subprocess.run(
        [*command, *known, f"--outfile={folder / 'bundle.js'}"],
        env={**os.environ, "NODE_PATH": str(PACKAGES / "node_modules")},
        check=True,
        timeout=60,
    )
    return folder


class Site:
    """A folder as a site of its own, on one port of both loopback addresses that tests use."""

    def __init__(self, folder: Path, address="127.0.0.1"):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Meeting:
    """A relay to `target`, a port, that can hold requests for `path`: what else a browser sends meanwhile was sent before they
    were answered."""

    def __init__(self, target: int, path: str):
        self.target = target
        self.start_of_request = f"GET {path} ".encode()
        self.heads: list[str] = []
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self):
        """Holds the requests, until `release`."""
        self.heads.clear()
        self._open.clear()

    def release(self):
        self._open.set()

    def cookies(self):
        """The `Cookie` of each request since `hold`."""
        return [found[1] for head in self.heads if (found := re.search(r"(?im)^cookie: (.*?)\r$", head))]

    def stop(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source, sink, is_request):
        try:
            while block := source.recv(65_536):
                if is_request and block.startswith(self.start_of_request):
                    self.heads.append(block.decode("latin-1"))
                    self._open.wait(20)
                sink.sendall(block)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

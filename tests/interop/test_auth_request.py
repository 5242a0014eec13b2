"""A real nginx that asks `/auth/check` before it serves, as people who already have one in front would."""

import os
import shutil
import subprocess

import pytest

from support.config import TRUSTED_LAB, base, lab_token
from support.http import bearer, send
from support.processes import eventually, free_port

CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /check-read {{
            internal;
            proxy_pass {gateway}/auth/check?scope=read;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-URI $request_uri;
        }}
        location = /check-admin {{
            internal;
            proxy_pass {gateway}/auth/check?role=admin&revocation=strict;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
        location /read/ {{
            auth_request /check-read;
            auth_request_set $user $upstream_http_x_forwarded_user;
            auth_request_set $groups $upstream_http_x_forwarded_groups;
            add_header X-Seen-User $user;
            add_header X-Seen-Groups $groups;
            proxy_set_header X-Forwarded-User $user;
            proxy_pass {application}/;
        }}
        location /admin/ {{
            auth_request /check-admin;
            proxy_pass {application}/;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def server(module_gateway):
    return module_gateway(base("{folder}") + TRUSTED_LAB)


@pytest.fixture(scope="module")
def nginx(server, echo, tmp_path_factory):
    """Its port."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "no nginx: apt-get install nginx-light"
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    file = folder / "nginx.conf"
    file.write_text(CONFIG.format(folder=folder, port=port, gateway=server.url, application=echo.url))
    process = subprocess.Popen([program, "-p", folder, "-c", file, "-e", "stderr"])

    def answers():
        assert process.poll() is None, "nginx did not start, see its error above"
        try:
            return send(port, "GET", "/").status
        except ConnectionRefusedError:
            return None

    eventually("nginx to answer", answers)
    yield port
    process.terminate()
    process.wait(20)


def test_nginx_lets_through_who_may(nginx):
    answer = send(nginx, "GET", "/read/echo/x", bearer(lab_token(sub="alice", scope="read write", roles=["a", "b"])))
    assert answer.status == 200, answer
    assert (answer.header("X-Seen-User"), answer.header("X-Seen-Groups")) == ("alice", "a,b")
    assert send(nginx, "POST", "/read/echo/x", bearer(lab_token(scope="read")), b"x" * 5000).status == 200
    assert send(nginx, "GET", "/admin/echo/x", bearer(lab_token(roles=["admin"]))).status == 200


def test_nginx_keeps_out_who_may_not(nginx):
    answer = send(nginx, "GET", "/read/echo/x")
    assert answer.status == 401 and answer.header("WWW-Authenticate").startswith("Bearer"), answer
    assert send(nginx, "GET", "/read/echo/x", bearer("garbage")).status == 401
    assert send(nginx, "GET", "/read/echo/x", bearer(lab_token(exp=1))).status == 401
    assert send(nginx, "GET", "/read/echo/x", bearer(lab_token(scope="write"))).status == 403
    assert send(nginx, "GET", "/admin/echo/x", bearer(lab_token(scope="read", roles=["user"]))).status == 403


def test_what_a_client_says_of_itself_or_of_the_request_decides_nothing(nginx, server):
    """H5: the headers of proxies that decide by them (CVE-2026-40575), through nginx and straight at the endpoint."""
    lies = {
        "X-Forwarded-User": "admin",
        "X-Forwarded-Uri": "/public",
        "X-Original-URI": "/public",
        "X-Original-URL": "/auth/check",
        "X-Forwarded-Method": "OPTIONS",
        "X-Forwarded-Host": "public.example.org",
    }
    token = bearer(lab_token(sub="alice", scope="read"))
    for port, path in ((nginx, "/admin/echo/x"), (server.port, "/auth/check?role=admin")):
        assert send(port, "GET", path, {**lies, **token}).status == 403
        assert send(port, "GET", path, lies).status == 401
    answer = send(server.port, "GET", "/auth/check?scope=read", {**lies, **token})
    assert (answer.status, answer.body, answer.header("X-Forwarded-User")) == (200, b"", "alice")
    for query in ("scope=", "scope=read&scope=x", "role=", "role=%zz", "revocation=yes", "revocation="):
        assert send(server.port, "GET", f"/auth/check?{query}", token).status == 400, query

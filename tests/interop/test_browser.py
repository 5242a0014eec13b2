"""The npm package ra-in-memory-jwt with react-admin, as they are, in a browser: the page is at another origin than the gateway,
behind which is an API that knows nothing of either.

Pictures of what a person sees are left in target/test-logs/browser.
"""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from support.browser import Meeting, Site, bundle, chromium_program
from support.config import base, route, upstream
from support.processes import ROOT, Application, tollgate

PASSWORD = "correct horse battery staple"
# ra-in-memory-jwt refreshes 5 s before the token expires, and the gateway's shortest lifetime is this.
ACCESS_TTL_SECONDS = 30
expect.set_options(timeout=20_000)
PICTURES = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "test-logs" / "browser"
RUNS = 8

CONFIG = """
allowed_origins = ["{origin}"]
{cookie}

[[login.aliases]]
path = "/authenticate"
does = "login"
profile = "ra-in-memory-jwt"

[[login.aliases]]
path = "/refresh-token"
does = "refresh"
profile = "ra-in-memory-jwt"

[[login.aliases]]
path = "/logout"
does = "logout"
profile = "ra-in-memory-jwt"

[tokens]
access_ttl = "{ttl}s"
"""


class World:
    """Everything that a test needs: addresses, and pages of a browser. `origin` is the page's; the gateway is at `localhost`."""

    def __init__(self, new_context, relay, origin):
        self.new_context, self.relay = new_context, relay
        self.unanswered = {}
        self.api = f"http://localhost:{relay.port}"
        self.page = f"{origin}/?api={self.api}"

    def person(self):
        """A browser without a past."""
        context = self.new_context(viewport={"width": 1000, "height": 640})
        context.set_default_timeout(20_000)
        unanswered = self.unanswered[context] = set()
        context.on("request", lambda request: unanswered.add(request))
        context.on("response", lambda response: unanswered.discard(response.request))
        context.on("requestfailed", lambda request: unanswered.discard(request))
        return context

    def open(self, context):
        page = context.new_page()
        page.goto(f"{self.page}#/users")
        return page

    def log_in(self, page, username="ada", password=PASSWORD):
        # The page asks for a session first, and draws the form anew with each answer that there is none.
        page.locator("input[name=username]").wait_for()
        unanswered, quiet = self.unanswered[page.context], 0
        for _ in range(200):
            page.wait_for_timeout(100)
            quiet = 0 if unanswered else quiet + 1
            if quiet == 8:
                break
        assert not unanswered, [request.url for request in unanswered]
        page.locator("input[name=username]").fill(username)
        page.locator("input[name=password]").fill(password)
        page.locator("button[type=submit]").click()

    def logged_in(self):
        """A person with one page that shows the list."""
        context = self.person()
        page = self.open(context)
        self.log_in(page)
        is_in(page)
        return context, page

    def picture(self, page, name):
        page.screenshot(path=PICTURES / f"{name}.png")


@pytest.fixture(scope="module")
def worlds(module_gateway, tmp_path_factory):
    """Makes worlds in which the page is at `http://{host}` and the cookie has these settings. Cookies that sites set while another
    one is shown are kept only by a profile that says so; the browser's default is to drop them."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("*.png"):
        old.unlink()
    site = Site(bundle(tmp_path_factory.mktemp("page")))
    api = Application("users_api")
    relays = []
    with sync_playwright() as playwright:
        # Without a sandbox, because a container's root may not make one; the pages are our own.
        start = {"executable_path": chromium_program(), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**start)

        def kept(**settings):
            profile = tmp_path_factory.mktemp("profile")
            (profile / "Default").mkdir()
            (profile / "Default" / "Preferences").write_text('{"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": false}}')
            return playwright.chromium.launch_persistent_context(profile, **start, **settings)

        def make(host, cookie, new_context=browser.new_context):
            origin = f"http://{host}:{site.port}"
            values = {"origin": origin, "cookie": cookie, "ttl": str(ACCESS_TTL_SECONDS)}
            config = base("{folder}") + re.sub(r"\{(\w+)\}", lambda found: values[found[1]], CONFIG)
            gateway = module_gateway(config + upstream("users", api.url) + route("/api/{*rest}", "users"))
            for username in ("ada", "mallory"):
                arguments = ["user", "add", username, "--password-stdin", "-c", gateway.config]
                added = tollgate(*arguments, stdin=PASSWORD)
                assert added.returncode == 0, added.stderr
            relays.append(Meeting(gateway.port, "/refresh-token"))
            return World(new_context, relays[-1], origin)

        make.kept = kept
        yield make
        browser.close()
    for relay in relays:
        relay.stop()
    site.stop()
    api.stop()


@pytest.fixture(scope="module")
def world(worlds):
    """The page is at another origin of the same site: what SameSite allows and CORS has to."""
    return worlds("localhost", "")


@pytest.fixture(scope="module")
def far_world(worlds):
    """The page is at another site, so the cookie goes with the requests of every site."""
    return worlds("127.0.0.1", 'cookie = { same_site = "none", secure = true }', worlds.kept)


def is_in(page):
    """The list is there, with the number of people that only an exposed `X-Total-Count` can have told."""
    expect(page.get_by_text("person1@example.org")).to_be_visible()
    expect(page.get_by_text("1-10 of 25")).to_be_visible()


def is_out(page):
    expect(page.locator("input[name=password]")).to_be_visible()


def refresh_list(page):
    """The button above the list: the next action of a person."""
    page.get_by_label("Refresh").click()


def holds_no_token(context, page):
    stored = page.evaluate("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
    assert not re.search(r"eyJ|tollgate", "".join(stored)), stored
    (cookie,) = context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict", cookie
    assert cookie["value"] not in "".join(stored)
    return cookie["value"]


def answers(page, path):
    """The statuses of all answers to `path` that a page gets from now on."""
    seen = []
    page.on("response", lambda response: seen.append(response.status) if response.url.endswith(path) else None)
    return seen


@pytest.fixture(scope="module")
def patient(worlds):
    """A page that was opened before all others, and waits while they are tested."""
    patient = worlds("localhost", "")
    context = patient.person()
    page = patient.open(context)
    with page.expect_response(lambda response: response.url.endswith("/authenticate")) as login:
        patient.log_in(page)
    is_in(page)
    refreshed = []
    page.on("response", lambda response: refreshed.append(response) if response.url.endswith("/refresh-token") else None)
    return patient, context, page, login.value.json(), refreshed


def test_a_person_logs_in_and_stays_after_a_reload(patient, world):
    context = world.person()
    page = context.new_page()
    refreshes, logouts = answers(page, "/refresh-token"), answers(page, "/logout")
    page.goto(f"{world.page}#/users")
    is_out(page)
    world.picture(page, "1-first-visit")
    # The package asks for a refresh first, is told in the status that it knows, and logs out whom nobody knows.
    assert refreshes.count(400) == 1 and set(refreshes) <= {400, 204} and logouts.count(200) >= 1, (refreshes, logouts)
    world.log_in(page, password="wrong")
    expect(page.get_by_text("Unauthorized")).to_be_visible()
    world.picture(page, "2-wrong-password")

    with page.expect_response(lambda response: response.url.endswith("/authenticate")) as login:
        world.log_in(page)
    first = login.value.json()
    assert set(first) == {"token", "tokenExpiry", "username"} and first["tokenExpiry"] == ACCESS_TTL_SECONDS
    is_in(page)
    world.picture(page, "3-logged-in")
    cookie = holds_no_token(context, page)
    page.reload()
    is_in(page)
    world.picture(page, "4-after-a-reload")
    assert holds_no_token(context, page) != cookie
    context.close()


def test_two_tabs_restored_at_once_both_stay(world):
    context, page = world.logged_in()
    same = 0
    for run in range(RUNS):
        for tab in context.pages:
            tab.close()
        # Both ask for a refresh before one of them is answered. Chromium sends one after the other, each with the cookie that
        # there was when it was asked for.
        world.relay.hold()
        tabs = [context.new_page(), context.new_page()]
        with tabs[0].expect_request("**/refresh-token"), tabs[1].expect_request("**/refresh-token"):
            for tab in tabs:
                tab.goto(f"{world.page}#/users", wait_until="commit")
        world.relay.release()
        for tab in tabs:
            is_in(tab)
        cookies = world.relay.cookies()
        assert len(cookies) == 2, cookies
        same += cookies[0] == cookies[1]
        for number, tab in enumerate(tabs, 1):
            refresh_list(tab)
            is_in(tab)
            if run == 0:
                world.picture(tab, f"5-restored-tab-{number}")
    print(f"\n{RUNS} of {RUNS} pairs of tabs stayed in, {same} of them with one cookie sent twice")
    # The rest depends on how soon Chromium reads the cookie of the second request, which a busy machine may put off.
    assert same >= RUNS // 2, f"only {same} times a cookie was sent twice"
    context.close()


def test_a_logout_in_one_tab_ends_the_other(world):
    context, first = world.logged_in()
    second = world.open(context)
    is_in(second)
    first.get_by_label("Profile").click()
    first.get_by_text("Logout").click()
    is_out(first)
    world.picture(first, "6-logged-out")
    expect(second.get_by_text("person1@example.org")).to_be_visible()
    refresh_list(second)
    is_out(second)
    world.picture(second, "7-the-other-tab")
    assert context.cookies() == []
    # Nor does a reload bring anybody back.
    second.reload()
    is_out(second)
    context.close()


def test_a_page_with_plain_fetch_keeps_its_session(world):
    """session.js, which the README shows."""
    context = world.person()
    page = context.new_page()
    refreshes = answers(page, "/auth/refresh")

    def run(script):
        start = "async (api) => { const { session } = await import('/session.js'); window.own ??= session(api); return "
        return page.evaluate(f"{start} {script} }}", world.api)

    page.goto(world.page.replace("/?", "/plain.html?"))
    assert "refresh" in run("own.fetch('/api/users').catch((error) => error.message)").lower()
    assert run("own.login('ada', 'wrong').catch((error) => error.message)") == "The username or the password is wrong."
    assert run(f"own.login('ada', '{PASSWORD}').then(() => 'in')") == "in"
    people = "own.fetch('/api/users').then(async (it) => [it.headers.get('X-Total-Count'), (await it.json()).length])"
    assert run(people) == ["25", 10]
    refreshes.clear()
    page.reload()
    # Three at once, one refresh.
    assert run(f"Promise.all([{people}, {people}, {people}])") == [["25", 10]] * 3
    assert refreshes == [200]
    holds_no_token(context, page)

    def answered_once(path, status):
        """The next answer to `path` is not the gateway's."""
        headers = {"Access-Control-Allow-Origin": world.page.split("/?")[0], "Access-Control-Allow-Credentials": "true"}
        page.route(f"**{path}", lambda route: route.fulfill(status=status, headers=headers, json={"message": "Not now."}), times=1)

    # A token that is refused before its time is changed for the next, and the request is sent again with its own headers.
    answered_once("/api/users", 401)
    asked = []
    page.on("request", lambda request: asked.append(request.headers) if request.url.endswith("/api/users") else None)
    headed = "own.fetch('/api/users', { headers: new Headers({ 'X-Of-The-Page': 'here' }) }).then((it) => it.status)"
    assert run(headed) == 200
    assert [headers["x-of-the-page"] for headers in asked] == ["here", "here"]
    assert asked[0]["authorization"] != asked[1]["authorization"]
    # Nobody is told of a logout that was none.
    answered_once("/auth/logout", 503)
    assert run("own.logout().catch((error) => [error.status, error.message])") == [503, "Not now."]
    assert run(people) == ["25", 10]
    run("own.logout()")
    assert "refresh" in run("own.fetch('/api/users').catch((error) => error.message)").lower()
    assert context.cookies() == []
    context.close()


# What a page of another site can try: each way to make a browser send a request. Tells what the page could see of each.
ATTACK = """
async ([api, password]) => {
    const seen = {};
    const attempt = async (name, action) => {
        try { seen[name] = await action(); } catch (error) { seen[name] = `blocked: ${error.name}`; }
    };
    const read = async (response) => `${response.type} ${response.status} ${await response.text()}`;
    const loaded = (element, source) => new Promise((resolve) => {
        element.onload = () => resolve('loaded');
        element.onerror = () => resolve('blocked: error');
        element.src = api + source;
        document.body.append(element);
    });
    const framed = (start) => new Promise((resolve) => {
        const frame = Object.assign(document.createElement('iframe'), { name: `frame${Math.random()}` });
        document.body.append(frame);
        frame.onload = () => {
            let text;
            try { text = frame.contentWindow.document.body.innerText; } catch (error) { text = `blocked: ${error.name}`; }
            if (text) { resolve(text); }
        };
        start(frame);
    });
    const posted = (path, fields, enctype) => framed((frame) => {
        const form = Object.assign(document.createElement('form'), { method: 'POST', action: api + path, target: frame.name, enctype });
        for (const [name, value] of Object.entries(fields)) {
            form.append(Object.assign(document.createElement('input'), { name, value }));
        }
        document.body.append(form);
        form.submit();
    });
    const json = { 'Content-Type': 'application/json' };
    const credentials = 'include';
    for (const path of ['/refresh-token', '/auth/refresh', '/logout', '/auth/logout', '/auth/me', '/auth/sessions', '/api/users']) {
        await attempt(`GET ${path}`, async () => read(await fetch(api + path, { credentials })));
        await attempt(`GET as JSON ${path}`, async () => read(await fetch(api + path, { credentials, headers: json })));
        await attempt(`GET opaque ${path}`, async () => read(await fetch(api + path, { credentials, mode: 'no-cors' })));
        await attempt(`POST ${path}`, async () => read(await fetch(api + path, { credentials, method: 'POST', body: '{}' })));
        await attempt(`POST as JSON ${path}`, async () => read(await fetch(api + path, { credentials, method: 'POST', body: '{}', headers: json })));
        await attempt(`POST opaque ${path}`, async () => read(await fetch(api + path, { credentials, method: 'POST', body: '{}', mode: 'no-cors' })));
        await attempt(`img ${path}`, () => loaded(document.createElement('img'), path));
        await attempt(`script ${path}`, () => loaded(document.createElement('script'), path));
        await attempt(`iframe ${path}`, () => framed((frame) => { frame.src = api + path; }));
        await attempt(`form ${path}`, () => posted(path, { a: 'b' }, 'application/x-www-form-urlencoded'));
        await attempt(`form as text ${path}`, () => posted(path, { '{"a': '"}' }, 'text/plain'));
    }
    // To be logged in as somebody else, who then watches.
    const mallory = { username: 'mallory', password };
    for (const path of ['/authenticate', '/auth/login', '/auth/token']) {
        const fields = path === '/auth/token' ? { grant_type: 'password', ...mallory } : mallory;
        await attempt(`form ${path}`, () => posted(path, fields, 'application/x-www-form-urlencoded'));
        await attempt(`POST opaque ${path}`, async () => read(await fetch(api + path, { credentials, method: 'POST', body: new URLSearchParams(fields), mode: 'no-cors' })));
    }
    document.body.insertAdjacentHTML('afterbegin', `<h1>${location.origin}</h1>`
        + Object.entries(seen).map(([name, what]) => `<div>${name}: ${what}</div>`).join(''));
    return seen;
}
"""


def attack(world, tmp_path, picture):
    """Somebody who is logged in visits a hostile site, and is then still logged in, as nobody else."""
    (tmp_path / "index.html").write_text("<!doctype html><title>Hostile</title>")
    site = Site(tmp_path)
    context, page = world.logged_in()
    before = context.cookies()
    world.relay.hold()
    world.relay.release()
    # Another site than localhost, as browsers see it.
    hostile = context.new_page()
    hostile.goto(f"http://127.0.0.1:{site.port}/")
    seen = hostile.evaluate(ATTACK, [world.api, PASSWORD])
    world.picture(hostile, picture)
    # A script element runs nothing of JSON that `nosniff` or its type keeps from being a script; an answer is never readable.
    readable = {name: what for name, what in seen.items() if not re.match("blocked: |opaque 0 $|loaded$", what)}
    assert not readable, readable
    assert len(seen) == 7 * 11 + 3 * 2
    # Nor by opening the address itself.
    for path in ("/logout", "/refresh-token", "/auth/logout", "/auth/refresh"):
        with context.expect_page() as opened:
            hostile.evaluate("address => { window.open(address) }", world.api + path)
        opened.value.wait_for_load_state()
        opened.value.close()
    sent = world.relay.cookies()
    assert context.cookies() == before, "the session was touched"
    page.reload()
    is_in(page)
    site.stop()
    context.close()
    return sent


def test_a_hostile_site_can_neither_refresh_nor_log_out_nor_read(world, tmp_path):
    sent = attack(world, tmp_path, "8-what-a-hostile-site-sees")
    assert sent == [], "a cookie for this site only was sent by another"


def test_a_hostile_site_can_do_no_more_where_the_cookie_is_for_every_site(far_world, tmp_path):
    sent = attack(far_world, tmp_path, "9-what-a-hostile-site-sees-with-the-cookie")
    # Or else it was the browser that kept the session safe, and not the gateway.
    assert len(sent) >= 6 and all("__Host-tollgate_refresh=" in cookie for cookie in sent), sent


def test_a_page_of_another_site_that_is_allowed_works(far_world):
    context, page = far_world.logged_in()
    (cookie,) = context.cookies()
    assert (cookie["sameSite"], cookie["secure"], cookie["httpOnly"]) == ("None", True, True), cookie
    page.reload()
    is_in(page)
    far_world.picture(page, "10-a-page-of-another-site")
    page.get_by_label("Profile").click()
    page.get_by_text("Logout").click()
    is_out(page)
    assert context.cookies() == []
    context.close()


def test_another_page_of_the_same_site_reads_nothing(world, tmp_path):
    """Not cross-site: the browser sends the cookie. What it may see is only for origins that are named."""
    (tmp_path / "index.html").write_text("<!doctype html><title>Neighbour</title>")
    site = Site(tmp_path)
    context, page = world.logged_in()
    before = context.cookies()
    neighbour = context.new_page()
    neighbour.goto(f"http://localhost:{site.port}/")
    script = """async (api) => {
        const seen = [];
        for (const path of ['/refresh-token', '/auth/refresh', '/logout', '/auth/logout', '/auth/me', '/api/users']) {
            for (const method of ['GET', 'POST']) {
                for (const headers of [{}, { 'Content-Type': 'application/json' }]) {
                    try {
                        const answer = await fetch(api + path, { credentials: 'include', method, headers });
                        seen.push(`${method} ${path}: ${await answer.text()}`);
                    } catch (error) {}
                }
            }
        }
        return seen;
    }"""
    assert neighbour.evaluate(script, world.api) == []
    assert context.cookies() == before, "the session was touched"
    page.reload()
    is_in(page)
    site.stop()
    context.close()


def test_a_token_is_refreshed_in_silence(patient):
    """Last, so that the wait is over: the package asks for the next token 5 s before the first one ends."""
    world, context, page, first, refreshed = patient
    assert first["tokenExpiry"] == ACCESS_TTL_SECONDS
    if not refreshed:
        page.wait_for_event("response", lambda response: response.url.endswith("/refresh-token"), timeout=60_000)
    answer = refreshed[-1]
    assert (answer.status, answer.request.method) == (200, "GET")
    second = answer.json()
    assert second["token"] != first["token"], second
    holds_no_token(context, page)
    with page.expect_request(re.compile("/api/users")) as request:
        refresh_list(page)
    assert request.value.headers["authorization"] == f"Bearer {second['token']}"
    assert request.value.response().status == 200
    is_in(page)
    world.picture(page, "11-after-the-silent-refresh")
    context.close()

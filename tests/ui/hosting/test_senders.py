"""Who may send requests: the visitor's address behind proxies, the hosts of a private page, and other websites."""

import asyncio
import importlib.util
import socket

import httpx
import pytest
from gradio import networking
from gradio_client import Client
from starlette.requests import Request

from bon.errors import InputError
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.rate_limit import visitor_id
from bon.ui.hosting.senders.visitor_addresses import VisitorAddresses
from tests.support.served_page import FORM, PUBLIC, call_listener, serving

RATE_OF_ONE = {**PUBLIC, "BON_RATE": "1"}
CALL = "/gradio_api/call/v2/best_of_n"  # with values by name, of which more may come
HTTP = httpx.Client(timeout=60)


# Addresses.


def visitor(environment: dict, *lines: str, peer: str = "192.0.2.1") -> str:
    """The visitor for whom a request with these lines of `X-Forwarded-For` counts."""
    visitors = []

    async def app(scope, *_):
        visitors.append(visitor_id(Request(scope)))

    headers = [(b"x-forwarded-for", line.encode()) for line in lines]
    scope = {"type": "http", "path": "/", "headers": headers, "client": (peer, 1)}
    asyncio.run(VisitorAddresses(app, Deployment.of(environment))(scope, None, None))
    return visitors[0]


ONE, TWO, SPACE = {"BON_PROXIES": "1"}, {"BON_PROXIES": "2"}, {"SPACE_ID": "me/bon"}


@pytest.mark.parametrize(("environment", "lines", "expected"), [
    ({}, ["203.0.113.1"], "192.0.2.1"),
    # The k-th entry from the right, whatever stands before it; the peer where there are fewer, or it is no address.
    (ONE, ["203.0.113.1"], "203.0.113.1"),
    (ONE, ["198.51.100.7, 203.0.113.1"], "203.0.113.1"),
    (ONE, ["198.51.100.7", "203.0.113.1"], "203.0.113.1"),
    (TWO, ["198.51.100.7, 203.0.113.1, 10.0.0.2"], "203.0.113.1"),
    (TWO, ["198.51.100.7", "203.0.113.1,10.0.0.2"], "203.0.113.1"),
    (TWO, ["203.0.113.1"], "192.0.2.1"),
    (ONE, [], "192.0.2.1"),
    (ONE, [""], "192.0.2.1"),
    (ONE, ["203.0.113.1, unknown"], "192.0.2.1"),
    (ONE, ["203.0.113.1:4711"], "203.0.113.1"),
    (ONE, ["[2001:db8::1]:4711"], "2001:db8::/64"),
    (ONE, ["[2001:db8::1]"], "2001:db8::/64"),
    (ONE, ["fe80::1%eth0"], "fe80::/64"),
    # IPv4 written as IPv6 is IPv4.
    (ONE, ["::ffff:203.0.113.1"], "203.0.113.1"),
    (ONE, ["::ffff:cb00:7101"], "203.0.113.1"),
    # On a Space the rightmost public one, unless the owner knows better.
    (SPACE, ["1.1.1.1, 8.8.8.8, 10.0.0.1"], "8.8.8.8"),
    (SPACE, ["8.8.8.8, 1.1.1.1", "100.64.0.9, 127.0.0.1"], "1.1.1.1"),
    (SPACE, ["10.0.0.1, fe80::1"], "192.0.2.1"),
    (SPACE | TWO, ["8.8.8.8, 1.1.1.1"], "8.8.8.8"),
    (SPACE | {"BON_PROXIES": "0"}, ["8.8.8.8"], "192.0.2.1"),
])
def test_the_visitor_is_the_one_whom_the_stated_proxies_saw(environment, lines, expected):
    assert visitor(environment, *lines) == expected


def test_ipv4_mapped_into_ipv6_is_no_shared_network_of_the_peers_either():
    assert [visitor({}, peer=f"::ffff:203.0.113.{i}") for i in range(2)] == ["203.0.113.0", "203.0.113.1"]


@pytest.mark.parametrize("number", ["-1", "17", "one"])
def test_a_number_of_proxies_that_cannot_be_is_refused_at_the_start(number):
    with pytest.raises(InputError, match="from 0 to 16"):
        Deployment.of({"BON_PROXIES": number})


def test_no_visitor_of_a_public_page_writes_their_own_address(caplog):
    with serving(**RATE_OF_ONE) as page:
        form = [*FORM.values()]
        assert "done.title" in call_listener(page, "generate", form, {"x-forwarded-for": "203.0.113.1"})
        for header in ("x-forwarded-for", "x-real-ip", "forwarded", "x-bon-visitor", "cf-connecting-ip"):
            assert "error.rate" in call_listener(page, "generate", form, {header: "203.0.113.9 00"}), header
    assert caplog.text.count("BON_PROXIES") == 1


@pytest.mark.skipif(not importlib.util.find_spec("mcp"), reason="gradio[mcp] is not installed")
def test_an_agents_runs_count_for_the_agents_address():
    def call_tool(url: str, peer: str, headers: dict | None = None) -> str:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=peer), timeout=60) as client:
            return client.post(f"{url}/gradio_api/mcp/", headers={
                "accept": "application/json, text/event-stream", **(headers or {}),
            }, json={"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                     "params": {"name": "best_of_n", "arguments": {"prompt": "This movie", "n": 2}}}).text

    with serving(**RATE_OF_ONE) as page:
        assert "candidates" in call_tool(page.url, "127.0.0.2")
        assert "more than 1 run" in call_tool(page.url, "127.0.0.2", {"x-bon-visitor": "203.0.113.8 0"})
        assert "candidates" in call_tool(page.url, "127.0.0.3")
        assert "done.title" in call_listener(page, "generate", [*FORM.values()])


# Hosts of a private page.


def fetch(page, method: str, path: str, host: str | None = None, **headers: str) -> httpx.Response:
    """The answer to a request as a browser at this host would send it, or curl without an origin."""
    named = {"host": host} if host else {}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"json": {"prompt": "Hi", "n": 2}} if method == "POST" else {}
    return HTTP.request(method, page.url + path, headers=named | sent, **body)


@pytest.fixture(scope="module")
def private():
    """A private page, on this machine."""
    with serving(BON_HOSTS="bon.example, other.example:8080", BON_FRAMES="https://wiki.example") as page:
        yield page


def test_a_private_page_answers_under_its_own_names_alone(private):
    port = private.url.rpartition(":")[2]
    machine = socket.gethostname()
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]", "192.168.1.5", "10.0.0.7", machine,
                 f"{machine.partition('.')[0]}.local", "bon.example", "other.example"):
        for host in (name, f"{name}:{port}"):
            assert fetch(private, "GET", "/config", host).status_code == 200, host
            assert fetch(private, "POST", CALL, host, origin=f"http://{host}").status_code == 200, host
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example",
                 "bon.example.evil", "2130706433.example", "x.hf.space", "abc.gradio.live", "evil.example, localhost"):
        for method, path in (("GET", "/"), ("GET", "/config"), ("POST", CALL), ("POST", "/gradio_api/upload"),
                             ("POST", "/gradio_api/mcp/"), ("OPTIONS", CALL), ("GET", "/health")):
            answer = fetch(private, method, path, host, origin=f"http://{host}")
            assert (answer.status_code, "access-control-allow-origin" in answer.headers) in ((421, False), (400, False))
            assert "valid" in answer.text or "BON_HOSTS" in answer.json()["detail"]
    assert fetch(private, "GET", "/", "localhost", x_forwarded_host="evil.example").status_code == 200


def test_a_proxy_may_pass_the_host_on_or_name_it_beside():
    with serving(BON_PROXIES="1", BON_HOSTS="bon.example") as page:
        passed_on = {"host": "bon.example", "x_forwarded_for": "203.0.113.1"}
        assert fetch(page, "POST", CALL, origin="https://bon.example", **passed_on).status_code == 200
        beside = {"x_forwarded_host": "bon.example", "x_forwarded_proto": "https", "x_forwarded_for": "203.0.113.1"}
        assert fetch(page, "POST", CALL, origin="https://bon.example", **beside).status_code == 200
        assert fetch(page, "GET", "/config", **beside).json()["root"] == "https://bon.example"
        assert fetch(page, "POST", CALL, origin="https://evil.example", **beside).status_code == 403
        # What a website's own name leads to through the proxy.
        rebound = beside | {"x_forwarded_host": "evil.example"}
        assert fetch(page, "POST", CALL, origin="https://evil.example", **rebound).status_code == 421
        assert fetch(page, "GET", "/config", "evil.example", **beside).status_code == 421
        appended = beside | {"x_forwarded_host": "evil.example, bon.example"}
        assert fetch(page, "POST", CALL, origin="https://bon.example", **appended).status_code == 200
        assert fetch(page, "POST", CALL, origin="https://evil.example", **appended).status_code == 403


def test_without_stated_proxies_no_header_makes_another_website_the_pages_own(private):
    answer = fetch(private, "POST", CALL, origin="https://evil.example", x_forwarded_host="evil.example")
    assert answer.status_code == 403
    assert "BON_PROXIES" in answer.json()["detail"]


def test_a_space_and_a_share_link_answer_under_their_names(monkeypatch):
    monkeypatch.setattr(networking, "setup_tunnel", lambda *_, **__: "http://abc123.gradio.live")
    monkeypatch.setenv("GRADIO_SHARE", "True")
    with serving(GRADIO_SERVER_NAME="gpu.example") as page:
        for host in ("abc123.gradio.live", "gpu.example"):
            assert fetch(page, "POST", CALL, host, origin=f"https://{host}").status_code == 200
        assert fetch(page, "POST", CALL, "other.gradio.live").status_code == 421
    monkeypatch.delenv("GRADIO_SHARE")
    with serving(SPACE_ID="me/bon", SPACE_HOST="me-bon.hf.space") as page:
        for host in ("me-bon.hf.space", "me-bon--dev.hf.space", "10.1.2.3:7860"):  # the last one as a proxy may have it
            assert fetch(page, "POST", CALL, host, origin="https://me-bon.hf.space").status_code == 200, host
        assert fetch(page, "POST", CALL, "me-bon.hf.space", origin="https://you-bon.hf.space").status_code == 403
        policy = fetch(page, "GET", "/", "me-bon.hf.space").headers.get_list("content-security-policy")
        assert "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co" in policy


# Other websites.


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "file://",
                                    "http://localhost:{port}", "http://127.0.0.1:{port}.evil.example", "http://[", ""])
def test_another_website_sends_nothing_to_a_private_page(private, origin):
    origin = origin.format(port=private.url.rpartition(":")[2])
    for path in (CALL, "/gradio_api/queue/join", "/gradio_api/component_server", "/gradio_api/upload",
                 "/gradio_api/mcp/", "/gradio_api/cancel", "/gradio_api/run/estimate_2", "/login"):
        for content_type in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
            headers = {"origin": origin, "content-type": content_type}
            answer = HTTP.post(private.url + path, headers=headers, content=b'{"data": ["Hi", 2]}')
            assert answer.status_code == 403, path
            assert "another website" in answer.json()["detail"]
        preflight = {"origin": origin, "access-control-request-method": "POST"}
        for method, headers in (("OPTIONS", preflight), ("PUT", {"origin": origin}), ("DELETE", {"origin": origin})):
            answer = HTTP.request(method, private.url + path, headers=headers)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
    read = HTTP.get(f"{private.url}/config", headers={"origin": origin})
    assert read.status_code == 200
    assert not [name for name in read.headers if name.startswith("access-control")]


def test_programs_and_the_page_itself_reach_a_private_page(private):
    assert fetch(private, "POST", CALL).status_code == 200  # curl
    assert fetch(private, "POST", CALL, origin=private.url).status_code == 200
    result = Client(private.url, verbose=False).predict("This movie", n=2, api_name="/best_of_n")
    assert result["candidates"]


def test_any_website_may_call_a_public_page_without_cookies():
    with serving(**PUBLIC) as page:
        for origin in ("https://wiki.example", "null"):
            preflight = fetch(page, "OPTIONS", CALL, origin=origin, access_control_request_method="POST",
                              access_control_request_headers="content-type")
            assert preflight.status_code == 204
            assert preflight.headers["access-control-allow-headers"] == "*"
            for answer in (preflight, fetch(page, "POST", CALL, origin=origin), fetch(page, "GET", "/config"),
                           fetch(page, "POST", "/gradio_api/nothing", origin=origin)):
                assert answer.headers["access-control-allow-origin"] == "*"
                assert "access-control-allow-credentials" not in answer.headers
        assert fetch(page, "GET", "/", "any.example").status_code == 200
        assert "frame-ancestors" not in str(fetch(page, "GET", "/").headers)


def test_a_public_page_with_a_password_is_not_open_to_other_websites():
    with serving(**PUBLIC, BON_PASSWORD="x") as page:
        assert fetch(page, "POST", "/login", origin="https://evil.example").status_code == 403
        assert "frame-ancestors 'self'" in str(fetch(page, "GET", "/").headers)


def test_only_named_websites_show_a_private_page_in_a_frame(private):
    for path in ("/", "/config", "/nothing"):
        policy = fetch(private, "GET", path).headers.get_list("content-security-policy")
        assert policy[-1] == "frame-ancestors 'self' https://wiki.example", path
        assert "script-src" in policy[0] or "sandbox" in policy[0]


@pytest.mark.parametrize(("variable", "value"), [
    ("BON_HOSTS", "https://bon.example"), ("BON_HOSTS", "a b"), ("BON_HOSTS", "bon.example/x"),
    ("BON_FRAMES", "https://a.example; script-src *"), ("BON_FRAMES", "'self'"), ("BON_FRAMES", "*"),
])
def test_a_host_or_website_that_cannot_be_is_refused_at_the_start(variable, value):
    with pytest.raises(InputError, match=variable):
        Deployment.of({variable: value})

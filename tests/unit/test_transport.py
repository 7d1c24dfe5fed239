"""HTTPS to the cluster: which host is asked, what a missing answer means, what can be no host at all."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from ansible_collections.keel.proxmox.plugins.module_utils import transport
from ansible_collections.keel.proxmox.plugins.module_utils.client import connect
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError
from ansible_collections.keel.proxmox.plugins.module_utils.transport import Answer, Endpoint, Transport, tls_context

from .fakes import FakeClock

OPTIONS = {
    "api_host": ["pve1", "pve2"],
    "api_port": 8006,
    "api_user": "root@pam",
    "api_token_id": "ci",
    "api_token_secret": "secret",
    "validate_certs": True,
    "api_timeout": 35.0,
}


def ok() -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    response._content = b'{"data": {"version": "9.0"}}'
    return response


class Hosts:
    """A session whose hosts fail as told: an exception for each host that gives no answer."""

    def __init__(self, failures: dict[str, Exception], before: Callable[[str], None] = lambda host: None) -> None:
        self.failures = failures
        self.before = before
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}

    def request(self, method: str, url: str, **_more: Any) -> requests.Response:
        host = url.split("/")[2].removesuffix(":8006")
        self.asked.append(host)
        self.before(host)
        if host in self.failures:
            raise self.failures[host]
        return ok()

    def close(self) -> None:
        """Nothing is kept."""


def reach(monkeypatch: pytest.MonkeyPatch, hosts: Hosts) -> Transport:
    monkeypatch.setattr(transport, "_session", lambda adapter: hosts)
    return Transport(Endpoint(("pve1", "pve2")))


def ask(through: Transport, method: str = "GET") -> Answer:
    return through.request(method, "/version", {}, {})


DOWN = requests.exceptions.ConnectTimeout("timed out")
SILENT = requests.exceptions.ReadTimeout("Read timed out.")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_next_host_is_asked_and_kept_where_the_first_is_down(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    hosts = Hosts({"pve1": DOWN})
    through = reach(monkeypatch, hosts)
    assert ask(through, method).status == 200
    assert ask(through, method).status == 200
    assert hosts.asked == ["pve1", "pve2", "pve2"]


def test_threads_that_find_a_host_down_together_agree_on_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)
    hosts = Hosts({"pve1": DOWN}, lambda host: together.wait(5) and None if host == "pve1" else None)
    through = reach(monkeypatch, hosts)
    threads = [threading.Thread(target=ask, args=(through,)) for _one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hosts.asked.clear()
    assert ask(through).status == 200
    assert hosts.asked == ["pve2"]


def test_a_read_that_one_host_never_answers_is_answered_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts({"pve1": SILENT})
    through = reach(monkeypatch, hosts)
    assert ask(through).status == 200
    assert ask(through).status == 200
    assert hosts.asked == ["pve1", "pve2", "pve2"]


@contextmanager
def hanging_up(reset: bool) -> Iterator[int]:
    """A port whose server takes connections and ends them before they are encrypted, as a load balancer without a node does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _peer = server.accept()
                    connection.recv(4096)
                    if reset:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_host_that_ends_before_it_is_encrypted_may_pass(method: str, reset: bool) -> None:
    """Another one, or the same a moment later, may answer; a certificate that is not trusted stays so."""
    with hanging_up(reset) as first, hanging_up(reset) as second:
        hosts = (f"127.0.0.1:{first}", f"127.0.0.1:{second}")
        through = Transport(Endpoint(hosts, validate_certs=False))
        with pytest.raises(ProxmoxError) as told:
            ask(through, method)
        assert told.value.effect is Effect.AMBIGUOUS
        # Reads go on to the second host at once, writes with what is done next.
        assert str(second if method == "GET" else first) in told.value.message
        with pytest.raises(ProxmoxError) as told:
            ask(through, method)
        assert str(second) in told.value.message


def test_a_write_that_one_host_never_answers_is_sent_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts({"pve1": SILENT})
    with pytest.raises(ProxmoxError) as caught:
        ask(reach(monkeypatch, hosts), "POST")
    assert caught.value.effect is Effect.AMBIGUOUS
    assert hosts.asked == ["pve1"]


def test_the_clusters_own_authority_is_trusted_by_every_python(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python 3.13 and later: strict verification, which the authority of a cluster that was set up before Proxmox VE 9 fails.
    create = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        context = create(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    context = tls_context(Endpoint(("pve1",)))
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("pve1", "https://pve1:8006/api2/json"),
        ("pve1:443", "https://pve1:443/api2/json"),
        ("https://pve1:443/", "https://pve1:443/api2/json"),
        ("2001:db8::1", "https://[2001:db8::1]:8006/api2/json"),
        ("[2001:db8::1]:443", "https://[2001:db8::1]:443/api2/json"),
    ],
)
def test_hosts_have_a_port_of_their_own_or_the_common_one(host: str, url: str) -> None:
    assert Endpoint((host,)).urls() == [url]


@pytest.mark.parametrize("host", ["http://pve1", "pve1/api2/json", "root@pve1", "pve 1", "pve1?x"])
def test_what_is_no_host_is_told_before_anything_is_sent(host: str) -> None:
    with pytest.raises(ProxmoxError, match="api_host"):
        connect({**OPTIONS, "api_host": [host]}, FakeClock())


def test_a_host_that_no_resolver_takes_is_told() -> None:
    with pytest.raises(ProxmoxError, match=r"api_host makes no valid URL: https://pve\.\.example"):
        ask(Transport(Endpoint(("pve..example",))))


@pytest.mark.parametrize("text", ["AA:BB", "", "ab" * 20, "AB:" * 32, "xy" * 32, "SHA256 " + "ab" * 32])
def test_what_is_no_fingerprint_is_told_before_anything_is_sent(text: str) -> None:
    with pytest.raises(ProxmoxError, match="api_fingerprint is no SHA-256 fingerprint"):
        Transport(Endpoint(("pve1",), fingerprint=text))


@pytest.mark.parametrize("text", ["ab" * 32, "AB" * 32, ":".join(["aB"] * 32)])
def test_fingerprints(text: str) -> None:
    Transport(Endpoint(("pve1",), fingerprint=text)).close()


def test_errors_of_parameters_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # tests/recordings/single-node.jsonl, create-bad-net.
    said = "invalid format - format error\nnet0.foo: property is not defined in schema\n"
    answer = ok()
    answer.status_code = 400
    answer._content = json.dumps({"errors": {"net0": said}, "message": "Parameter verification failed.\n"}).encode()
    told = transport._read(answer, "POST /x").text
    assert told == (
        "Parameter verification failed (net0: invalid format - format error; net0.foo: property is not defined in schema)"
    )


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_told(seconds: float) -> None:
    with pytest.raises(ProxmoxError, match="api_timeout"):
        connect({**OPTIONS, "api_timeout": seconds}, FakeClock())


@pytest.mark.parametrize(
    ("failure", "seconds_each", "times"),
    [(requests.exceptions.ConnectionError("cut off"), 0.0, 4), (SILENT, 35.0, 1), (DOWN, 5.0, 1)],
    ids=["cut off", "silent", "down"],
)
def test_only_what_fails_quickly_is_read_again_at_once(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, seconds_each: float, times: int
) -> None:
    clock = FakeClock()
    hosts = Hosts({"pve1": failure}, lambda host: clock.sleep(seconds_each))
    monkeypatch.setattr(transport, "_session", lambda adapter: hosts)
    client = connect({**OPTIONS, "api_host": ["pve1"]}, clock)
    with pytest.raises(ProxmoxError):
        client.get("/version")
    assert len(hosts.asked) == times


def test_proxies_come_from_the_environment_and_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts({})
    used: list[object] = []
    looked: list[str] = []
    look = requests.utils.get_environ_proxies

    def request(method: str, url: str, **more: Any) -> requests.Response:
        used.append(more["proxies"])
        return Hosts.request(hosts, method, url, **more)

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "pve2")
    monkeypatch.setattr(requests.utils, "get_environ_proxies", lambda url: looked.append(url) or look(url))
    monkeypatch.setattr(hosts, "request", request)
    for host in ("pve1", "pve2"):
        monkeypatch.setattr(transport, "_session", lambda adapter: hosts)
        through = Transport(Endpoint((host,)))
        ask(through)
        ask(through, "POST")
    assert [proxies.get("https") for proxies in used] == ["http://proxy.example.com:3128"] * 2 + [None] * 2
    assert len(looked) == 2


def test_the_session_takes_nothing_else_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    assert transport._session(transport._Adapter(ssl.create_default_context(), None, 1)).trust_env is False


@pytest.mark.parametrize(
    ("params", "body"),
    [
        ({"a": "x", "on": True, "list": ["y", "z"]}, [("a", "x"), ("on", "1"), ("list", "y"), ("list", "z")]),
        ({"a": "", "on": True, "one": ["y"]}, {"a": "", "on": "1", "one": "y"}),
        ({"list": ["y", "", "z"]}, {"list": ["y", "", "z"]}),
        ({}, []),
    ],
)
def test_an_empty_text_goes_as_json(monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], body: Any) -> None:
    """In a form the server takes it for none, and forgets the texts of the same name before it."""
    sent: list[Any] = []

    class Noting(Hosts):
        def request(self, method: str, url: str, **more: Any) -> requests.Response:
            is_json = more["headers"].get("Content-Type") == "application/json"
            sent.append(json.loads(more["data"]) if is_json else more["data"])
            return super().request(method, url, **more)

    reach(monkeypatch, Noting({})).request("POST", "/x", params, {})
    assert sent == [body]

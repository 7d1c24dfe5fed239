"""Whom the client talks to: every certificate that cannot be trusted is refused, and the message says what is wrong with it."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.argspec import AUTH
from ansible_collections.keel.proxmox.plugins.module_utils.client import connect
from ansible_collections.keel.proxmox.plugins.module_utils.errors import ProxmoxError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the certificates are made by openssl")

SECRET = "canary-7d1b0f"


@dataclass(frozen=True)
class Certificates:
    """Where they lie: NAME.pem with its key in NAME.key."""

    directory: Path

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    def fingerprint(self, name: str) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.path(name).read_text(encoding="ascii"))).hexdigest()

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def authority(self, name: str) -> None:
        self.self_signed(name, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")

    def self_signed(self, name: str, *extensions: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        added = [part for extension in extensions for part in ("-addext", extension)]
        self.openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-days", "30", "-out", f"{name}.pem", *added)

    def signed(self, name: str, alternative: str, first: str, last: str) -> None:
        """A certificate of the authority "ours" for these times, as YYYYMMDDHHMMSSZ."""
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        self.openssl("req", "-new", *key, "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (self.directory / f"{name}.ext").write_text(
            f"subjectAltName={alternative}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n",
            encoding="ascii",
        )
        self.openssl(
            *("ca", "-batch", "-config", "ca.cnf", "-in", f"{name}.csr", "-out", f"{name}.pem", "-notext"),
            *("-startdate", first, "-enddate", last, "-extfile", f"{name}.ext"),
        )


CONFIGURATION = """\
[ca]
default_ca = ours
[ours]
database = index.txt
unique_subject = no
new_certs_dir = .
rand_serial = yes
certificate = ours.pem
private_key = ours.key
default_md = sha256
policy = any
[any]
commonName = supplied
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    (made.directory / "ca.cnf").write_text(CONFIGURATION, encoding="ascii")
    (made.directory / "index.txt").touch()
    always = ("20200101000000Z", "20991231235959Z")
    made.authority("ours")
    made.authority("other")
    made.self_signed("alone", "subjectAltName=IP:127.0.0.1")
    made.signed("good", "IP:127.0.0.1", *always)
    made.signed("host", "DNS:elsewhere.example", *always)
    made.signed("address", "IP:192.0.2.1", *always)
    made.signed("expired", "IP:127.0.0.1", "20200101000000Z", "20200201000000Z")
    made.signed("early", "IP:127.0.0.1", "20980101000000Z", "20991231235959Z")
    return made


class Api(http.server.BaseHTTPRequestHandler):
    """Answers every request with nothing, or with what its server says, and remembers the headers."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers.items()))
        status, headers = self.server.answer
        content = b'{"data":[]}'
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


class Listener(http.server.ThreadingHTTPServer):
    """A server with a certificate, or without one when it is None."""

    def __init__(self, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Api)
        self.seen: list[dict[str, str]] = []
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.context = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    def finish_request(self, request: Any, client_address: Any) -> None:
        # A client that does not like the certificate hangs up.
        with contextlib.suppress(OSError):
            if self.context is not None:
                request = self.context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)


@contextlib.contextmanager
def listening(certificate: Path | None) -> Iterator[Listener]:
    server = Listener(certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(server: Listener, **options: Any) -> Any:
    defaults = {name: rules.get("default") for name, rules in AUTH.items()}
    where = {"api_host": ["127.0.0.1"], "api_port": server.server_address[1], "api_timeout": 5.0}
    token = {"api_token_id": "robot@pve!canary", "api_token_secret": SECRET}
    client = connect({**defaults, **where, **token, **options})
    try:
        return client.get("/cluster/resources")
    finally:
        client.close()


def refused(server: Listener, **options: Any) -> str:
    """Return why the server is refused; it has not been told the secret."""
    with pytest.raises(ProxmoxError) as caught:
        ask(server, **options)
    assert server.seen == [], "nothing is sent before the certificate is trusted"
    assert SECRET not in repr(caught.value.__dict__)
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "authority", "says"),
    [
        ("good", "other", "authority that is not trusted"),
        ("good", None, "authority that is not trusted"),
        ("alone", "ours", "self-signed"),
        ("expired", "ours", "expired"),
        ("early", "ours", "not valid yet"),
        ("host", "ours", "another address"),
        ("address", "ours", "another address"),
    ],
)
def test_a_certificate_is_refused(certificates: Certificates, name: str, authority: str | None, says: str) -> None:
    ca_path = None if authority is None else str(certificates.path(authority))
    with listening(certificates.path(name)) as server:
        message = refused(server, ca_path=ca_path)
    assert says in message
    assert "127.0.0.1" in message
    assert "ca_path" in message


def test_a_certificate_for_another_host_name(certificates: Certificates) -> None:
    with listening(certificates.path("host")) as server:
        message = refused(server, ca_path=str(certificates.path("ours")), api_host=["localhost"])
    assert "another host name" in message


@pytest.mark.parametrize("name", ["good", "alone", "expired"])
def test_a_fingerprint_that_is_another(certificates: Certificates, name: str) -> None:
    with listening(certificates.path(name)) as server:
        message = refused(server, api_fingerprint=certificates.fingerprint("ours"))
    assert "fingerprint" in message
    assert "api_fingerprint" in message


def test_a_fingerprint_is_checked_also_where_certificates_are_not(certificates: Certificates) -> None:
    with listening(certificates.path("good")) as server:
        message = refused(server, api_fingerprint=certificates.fingerprint("ours"), validate_certs=False)
    assert "fingerprint" in message


def test_no_tls_at_all() -> None:
    with listening(None) as server:
        message = refused(server)
    assert "TLS" in message
    assert "127.0.0.1" in message


@pytest.mark.parametrize("name", ["good", "alone", "expired", "host"])
def test_the_right_fingerprint_is_enough(certificates: Certificates, name: str) -> None:
    with listening(certificates.path(name)) as server:
        assert ask(server, api_fingerprint=certificates.fingerprint(name)) == []


def test_the_right_authority_is_enough(certificates: Certificates) -> None:
    with listening(certificates.path("good")) as server:
        assert ask(server, ca_path=str(certificates.path("ours"))) == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_never_gets_the_token(certificates: Certificates, status: int) -> None:
    trust = {"ca_path": str(certificates.path("ours"))}
    with listening(certificates.path("good")) as thief, listening(certificates.path("good")) as server:
        server.answer = (
            status,
            {"Location": f"https://127.0.0.1:{thief.server_address[1]}/api2/json/cluster/resources"},
        )
        with pytest.raises(ProxmoxError) as caught:
            ask(server, **trust)
        assert len(server.seen) == 1
        assert thief.seen == []
    assert f"status {status}" in caught.value.message
    assert SECRET not in caught.value.message


def test_no_netrc_and_no_other_credentials_are_sent(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with listening(certificates.path("good")) as server:
        ask(server, ca_path=str(certificates.path("ours")))
        (headers,) = server.seen
    assert headers["Authorization"] == f"PVEAPIToken=robot@pve!canary={SECRET}"

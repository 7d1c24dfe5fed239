# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTPS shell: a threaded server in front of a cluster, with the connection habits of pveproxy.

Source: pve-http-server, PVE/APIServer/AnyEvent.pm: connections are closed after every status >= 400, after 100 requests and after
5 idle seconds; bodies over 1 KiB are compressed when asked.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from .engine.clock import RealClock
from .engine.cluster import Cluster
from .engine.http import Request, Response

IDLE_SECONDS = 5.0
REQUESTS_PER_CONNECTION = 100
COMPRESS_FROM = 1024


def make_certificate(directory: Path, host: str) -> tuple[Path, Path, str]:
    """A private authority and a certificate of it, made by the `openssl` program.

    Returns:
        The authority's certificate, the server's certificate with its key, and the SHA-256 fingerprint of the latter.
    """
    ca, ca_key, cert, key = (directory / name for name in ("ca.pem", "ca.key", "server.pem", "server.key"))
    name = f"IP:{host}" if host.replace(".", "").isdigit() else f"DNS:{host}"
    common = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "3650",
    ]

    def run(*arguments: str) -> None:
        subprocess.run([*common, *arguments], check=True, capture_output=True)

    run(
        *("-subj", "/CN=Simulated Proxmox VE authority", "-keyout", str(ca_key), "-out", str(ca)),
        *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    run(
        *("-subj", "/CN=Simulated Proxmox VE node", "-keyout", str(key), "-out", str(cert)),
        *("-CA", str(ca), "-CAkey", str(ca_key)),
        *(
            "-addext",
            f"subjectAltName={name},DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ),
        *("-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=serverAuth"),
    )
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest().upper()
    cert.write_text(cert.read_text() + key.read_text())
    return ca, cert, ":".join(digest[at : at + 2] for at in range(0, 64, 2))


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    wbufsize = -1  # one write for head and body
    server: _Listener

    def setup(self) -> None:
        """Shake hands in the connection's own thread."""
        self.request.settimeout(30.0)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.count = 0
        super().setup()

    def answer(self) -> None:
        """Read a request, have the cluster answer it, write the answer."""
        self.count += 1
        length = int(self.headers.get("Content-Length") or 0)
        self.connection.settimeout(60.0)
        body = self.rfile.read(length) if length else b""
        # Case of header names is the client's affair; duplicates do not occur.
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        response = self.server.ask(request)
        if response.drop is not None:
            self._drop(response)
            return
        self._write(response)
        self.connection.settimeout(IDLE_SECONDS)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = answer

    def _write(self, response: Response, *, cut: bool = False) -> None:
        payload = response.body
        last = response.status >= 400 or self.count >= REQUESTS_PER_CONNECTION
        self.send_response(response.status, response.reason)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if len(payload) > COMPRESS_FROM and "gzip" in (self.headers.get("Accept-Encoding") or ""):
            payload = gzip.compress(payload, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Connection", "close" if last else "Keep-Alive")
        self.send_header("Cache-Control", "max-age=0")
        self.end_headers()
        self.wfile.write(payload[: len(payload) // 2] if cut else payload)
        self.wfile.flush()
        self.close_connection = last or cut or self.close_connection

    def version_string(self) -> str:
        """The `Server` header of pveproxy."""
        return "pve-api-daemon/3.0"

    def _drop(self, response: Response) -> None:
        """Do to the connection what a fault says."""
        self.close_connection = True
        if response.drop == "truncate":
            self._write(response, cut=True)
            return
        if response.drop == "silence":
            # Silent until the client gives up.
            self.connection.settimeout(600.0)
            with contextlib.suppress(OSError):
                self.connection.recv(1)
            return
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def finish(self) -> None:
        """The peer may be gone."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()


class _Listener(socketserver.ThreadingTCPServer):
    """The listening socket and what its connections share."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], cluster: Cluster, context: ssl.SSLContext, entry: str | None) -> None:
        self.cluster, self.context, self.entry = cluster, context, entry
        self.connections = 0
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Count the connection; all are taken."""
        self.connections += 1
        return True

    def ask(self, request: Request) -> Response:
        """Have the cluster answer while real time passes."""
        cluster, scheduler = self.cluster, self.cluster.scheduler
        clock = cluster.clock
        if not isinstance(clock, RealClock):
            return cluster.handle(request, self.entry)
        with scheduler.lock:
            scheduler.catch_up()
            process = scheduler.spawn(cluster.serve(request, self.entry))
        while True:
            with scheduler.lock:
                scheduler.catch_up()
                if process.done:
                    assert process.result is not None
                    return process.result
                wait = scheduler.until_next() or 0.0
            time.sleep(min(wait / clock.speed, 0.5))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; a bug of the simulator is printed."""
        import sys

        if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


class Server:
    """A cluster that listens. `stop()` ends it; also a context manager."""

    def __init__(self, cluster: Cluster, host: str, port: int, entry: str | None) -> None:
        self.cluster = cluster
        self._directory = tempfile.TemporaryDirectory(prefix="pve-simulator-")
        ca, certificate, self.fingerprint = make_certificate(Path(self._directory.name), host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate)
        self._listener = _Listener((host, port), cluster, context, entry)
        self.host, self.port = host, int(self._listener.server_address[1])
        self.url = f"https://{self.host}:{self.port}"
        self.ca_path = str(ca)
        self.user, self.token_id = "root@pam", "keel"
        token = cluster.access.users["root@pam"].tokens.get("keel")
        self.token_secret = token.secret if token else cluster.add_token("root@pam", "keel", privsep=False)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return self._listener.connections

    def environment(self) -> dict[str, str]:
        """The variables that the collection reads."""
        return {
            "PROXMOX_HOST": self.host,
            "PROXMOX_PORT": str(self.port),
            "PROXMOX_USER": self.user,
            "PROXMOX_TOKEN_ID": self.token_id,
            "PROXMOX_TOKEN_SECRET": self.token_secret,
            "PROXMOX_CA_PATH": self.ca_path,
        }

    def stop(self) -> None:
        """Close the socket and remove the certificate."""
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()
        self._directory.cleanup()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def serve(
    cluster: Cluster, port: int = 0, *, host: str = "127.0.0.1", real_time: bool = True, entry: str | None = None
) -> Server:
    """Serve a cluster over HTTPS.

    Args:
        cluster: with a `RealClock` when time shall pass by itself.
        port: 0 for any.
        real_time: refuse a cluster whose clock stands still.
        entry: the node whose pveproxy this is.

    Raises:
        ValueError: real time was asked for and the cluster has a virtual clock.
    """
    if real_time and not isinstance(cluster.clock, RealClock):
        raise ValueError("serving in real time needs a cluster with a RealClock")
    return Server(cluster, host, port, entry)

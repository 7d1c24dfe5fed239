"""The two ways to reach a cluster: the adapter for requests, and the HTTPS server with pveproxy's habits."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.simulator import Cluster, Fault, RealClock, Server, serve
from tests.simulator.adapter import ClusterAdapter

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(name="server")
def _server(cluster: Cluster) -> Iterator[Server]:
    assert cluster.schema  # the fixture skips without it
    real = Cluster(clock=RealClock(speed=50.0))
    with serve(real) as listening:
        yield listening


def connect(server: Server) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=server.ca_path)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return http.client.HTTPSConnection(server.host, server.port, timeout=10, context=context)


def get(connection: http.client.HTTPSConnection, server: Server, path: str, **headers: str) -> http.client.HTTPResponse:
    connection.request("GET", f"/api2/json{path}", headers={**server.cluster.token_header(), **headers})
    return connection.getresponse()


def test_connections_are_kept_for_a_hundred_requests(server: Server) -> None:
    connection = connect(server)
    kinds = []
    for _number in range(100):
        response = get(connection, server, "/version")
        response.read()
        kinds.append(response.headers["Connection"])
    assert kinds == ["Keep-Alive"] * 99 + ["close"]


def test_a_failure_closes_the_connection(server: Server) -> None:
    connection = connect(server)
    response = get(connection, server, "/nosuch")
    assert (response.status, response.headers["Connection"]) == (501, "close")
    assert json.loads(response.read())["message"] == "Method 'GET /nosuch' not implemented"


def test_long_bodies_are_compressed_when_asked(server: Server) -> None:
    for vmid in range(100, 120):
        server.cluster.add_vm(vmid)
    answer = requests.get(
        f"{server.url}/api2/json/cluster/resources",
        headers=server.cluster.token_header(),
        verify=server.ca_path,
        timeout=10,
    )
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.json()["data"]) > 20
    assert get(connect(server), server, "/version", **{"Accept-Encoding": "gzip"}).headers["Content-Encoding"] is None


def test_the_fingerprint_is_that_of_the_certificate(server: Server) -> None:
    import hashlib

    pem = ssl.get_server_certificate((server.host, server.port))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    assert server.fingerprint.replace(":", "") == digest


def test_time_passes_by_itself(server: Server) -> None:
    server.cluster.add_vm(100)
    session = requests.Session()
    session.headers.update(server.cluster.token_header())
    upid = session.post(
        f"{server.url}/api2/json/nodes/pve1/qemu/100/status/start", verify=server.ca_path, timeout=10
    ).json()["data"]
    for _number in range(100):
        path = f"/api2/json/nodes/pve1/tasks/{upid}/status"
        status = session.get(server.url + path, verify=server.ca_path, timeout=10).json()["data"]
        if status["status"] == "stopped":
            break
    assert status["exitstatus"] == "OK"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", requests.exceptions.ConnectionError),
        ("silence", requests.exceptions.ReadTimeout),
        ("truncate", requests.exceptions.ChunkedEncodingError),
    ],
)
def test_faults_look_the_same_in_process_and_over_a_socket(
    server: Server, cluster: Cluster, kind: str, error: type[Exception]
) -> None:
    session = requests.Session()
    session.mount("https://", ClusterAdapter(cluster))
    cluster.add_fault(Fault(kind=kind, when="after"))  # type: ignore[arg-type]
    with pytest.raises(error) as in_process:
        session.get("https://pve1:8006/api2/json/version", headers=cluster.token_header(), timeout=(1, 1))
    server.cluster.add_fault(Fault(kind=kind, when="after"))  # type: ignore[arg-type]
    with pytest.raises(error) as over_socket:
        requests.get(
            f"{server.url}/api2/json/version",
            headers=server.cluster.token_header(),
            verify=server.ca_path,
            timeout=(1, 1),
        )
    assert type(in_process.value) is type(over_socket.value)


def test_the_adapter_lets_virtual_time_pass(cluster: Cluster) -> None:
    session = requests.Session()
    session.mount("https://", ClusterAdapter(cluster))
    began = cluster.now
    answer = session.get("https://pve1:8006/api2/json/nodes", timeout=5)
    assert (answer.status_code, answer.reason, answer.content) == (401, "No ticket", b"")
    assert round(cluster.now - began) == 3


def test_the_program_says_how_to_reach_it(tmp_path: Path, cluster: Cluster) -> None:
    assert cluster.schema
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "tests.simulator", "--port", "0", "--guests", "5", "--ready-file", str(ready)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _number in range(7)]
        exports = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines[1:])
        answer = requests.get(
            f"https://{exports['PROXMOX_HOST']}:{exports['PROXMOX_PORT']}/api2/json/cluster/resources?type=vm",
            headers={
                "Authorization": f"PVEAPIToken={exports['PROXMOX_USER']}!{exports['PROXMOX_TOKEN_ID']}"
                f"={exports['PROXMOX_TOKEN_SECRET']}"
            },
            verify=exports["PROXMOX_CA_PATH"],
            timeout=10,
        )
        program.terminate()
        program.communicate(timeout=10)
    assert len(answer.json()["data"]) == 6
    assert ready.read_text(encoding="utf-8") == "".join(lines[1:])

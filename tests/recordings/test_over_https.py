"""Some of the recorded exchanges over a socket: the shell around the engine keeps the server's manners."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.simulator import RealClock, Server, serve

from . import scenes
from .compare import differences
from .replay import Exchange, encode, exchanges

# Those that need nothing but the first state of the run.
NAMES = """001-version 003-login-bad-password 007-noauth 016-unknown-path 019-get-on-post-only 024-cluster-resources-vm
    026-cluster-resources-lim 032-nextid-taken 033-nextid-free 045-node-unknown-post 055-create-bad-net 058-create-perm-denied"""
SPEED = 10.0  # the server's three seconds for a 401 take 0.3 s here
CHOSEN = [exchange for exchange in exchanges("single-node") if exchange.name in NAMES.split()]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Server, dict[str, str]]]:
    run = scenes.start("single-node", RealClock(1795189930.0, speed=SPEED))
    with serve(run.cluster) as listening:
        yield listening, dict(run.tokens)


@pytest.mark.parametrize("exchange", CHOSEN, ids=lambda exchange: exchange.name)
def test_answers_as_recorded(server: tuple[Server, dict[str, str]], exchange: Exchange) -> None:
    listening, tokens = server
    request, recorded = exchange.request, exchange.response
    context = ssl.create_default_context(cafile=listening.ca_path)
    connection = http.client.HTTPSConnection(listening.host, listening.port, timeout=10, context=context)
    body, headers = encode(request), {}
    if request["auth"]:
        headers["Authorization"] = tokens[request["auth"]]
    if request["content_type"]:
        headers["Content-Type"] = request["content_type"]
    connection.connect()
    began = time.monotonic()
    connection.request(request["method"], request["url"], body, headers)
    response = connection.getresponse()
    raw = response.read()
    seconds = (time.monotonic() - began) * SPEED
    answer = json.loads(raw) if raw else None
    # Over a socket little things take their time on a busy machine; long waits are long nevertheless.
    if recorded["elapsed_s"] <= 2.5:
        seconds = 0.0
    assert not differences(recorded, response.status, response.reason, answer, raw, min(seconds, 3.5))
    for name in ("Connection", "Content-Type"):
        assert response.headers.get(name) == recorded["headers"].get(name), name
    connection.close()

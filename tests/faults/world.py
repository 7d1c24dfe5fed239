"""Clusters on which things go wrong, with modules run on them in the test's own process and virtual time."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import requests
from ansible_collections.keel.proxmox.plugins.module_utils import transport

from tests import modules
from tests.promises.world import TOKEN, USER, VirtualClock, populate
from tests.simulator import Cluster, Request
from tests.simulator.adapter import ClusterAdapter
from tests.simulator.engine.http import parameters

# More than any run needs; one that asks more often than that would never end.
MAX_REQUESTS = 3000


# Two, so that the loss of one can be survived.
HOSTS = ["pve1", "pve3"]


class Killed(BaseException):
    """The process of the play ends here."""


class Endless(BaseException):
    """A run that would not end."""


class Wire(ClusterAdapter):
    """The connection of one run.

    :param before: called with the number of each request before it is sent, from 1, and :param after: when it is answered.
    """

    def __init__(
        self,
        cluster: Cluster,
        before: Callable[[int], None] = lambda number: None,
        after: Callable[[int], None] = lambda number: None,
    ) -> None:
        super().__init__(cluster, {node: node for node in cluster.nodes})
        self.started: dict[int, str] = {}  # the number of a request that started a task -> UPID
        self.said = ""  # what the run printed and logged
        self._before, self._after = before, after

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        number = len(self.sent) + 1
        if number > MAX_REQUESTS:
            raise Endless
        self._before(number)
        known = set(self.cluster.tasks.all)
        try:
            return super().send(request, *args, **kwargs)
        finally:
            ours = [upid for upid in self.cluster.tasks.all if upid not in known and f":{USER}!{TOKEN}:" in upid]
            if request.method != "GET" and ours:
                self.started[number] = ours[0]
            self._after(number)

    def writes(self) -> list[tuple[str, str, dict[str, str]]]:
        """Return method, path and parameters of every writing request but logins."""
        return [
            (
                str(request.method),
                path,
                _parameters(request),
            )
            for request in self.sent
            if request.method != "GET"
            and (path := urlsplit(str(request.url)).path.removeprefix("/api2/json")) != "/access/ticket"
        ]


def _parameters(request: requests.PreparedRequest) -> dict[str, str]:
    body = request.body or b""
    sent = Request("POST", "", {**(request.headers or {})}, body if isinstance(body, bytes) else body.encode())
    fields = parameters(sent, urlsplit(str(request.url)).query)
    return {key: str(value) for key, value in fields.items() if key not in ("tmpfilename", "_content")}


@contextlib.contextmanager
def connected(wire: Wire) -> Iterator[None]:
    """Let modules talk over this wire; the TLS settings, which nobody needs here, are made once."""
    with (
        patch.object(transport, "_session", lambda adapter: _session(wire)),
        patch.object(transport, "tls_context", _tls_context),
    ):
        yield


_session = transport._session
_tls_context = functools.cache(transport.tls_context)


@contextlib.contextmanager
def overheard(wire: Wire) -> Iterator[None]:
    """Keep what is printed or logged meanwhile, at any level."""
    said = io.StringIO()
    handler, logger = logging.StreamHandler(said), logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        wire.said += said.getvalue()


def make_cluster(setup: Callable[[Cluster], None]) -> Cluster:
    """Return the cluster of the promises, with what the scenario needs."""
    cluster = Cluster()
    populate(cluster)
    setup(cluster)
    cluster.log.clear()
    return cluster


def credentials(cluster: Cluster, *, password: bool) -> dict[str, Any]:
    """Return the connection options."""
    if password:
        return {"api_host": HOSTS, "api_user": USER, "api_password": cluster.access.users[USER].password}
    secret = cluster.access.users[USER].tokens[TOKEN].secret
    return {"api_host": HOSTS, "api_user": USER, "api_token_id": TOKEN, "api_token_secret": secret}


def secrets(cluster: Cluster) -> list[str]:
    """Return what nobody may ever see."""
    user = cluster.access.users[USER]
    return [user.password, user.tokens[TOKEN].secret]


def play(
    cluster: Cluster,
    module: str,
    options: dict[str, Any],
    wire: Wire,
    *,
    password: bool = False,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Return the result of a module that is run over this wire."""
    with connected(wire), overheard(wire):
        result = modules.run(
            module,
            credentials(cluster, password=password) | options,
            check_mode=check_mode,
            clock=VirtualClock(cluster),
        )
    if cluster.unmodelled:
        raise AssertionError(f"not modelled: {cluster.unmodelled}")
    return result

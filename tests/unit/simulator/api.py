"""A client for tests of the simulator: plain calls, tasks waited for."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from tests.simulator import Cluster, Request, Response
from tests.simulator.engine.tasks import Task

FORM = "application/x-www-form-urlencoded"


class Api:
    """Calls to a cluster as one caller: the token root@pam!keel unless other headers are given."""

    def __init__(self, cluster: Cluster, headers: dict[str, str] | None = None) -> None:
        self.cluster = cluster
        self.headers = cluster.token_header() if headers is None else headers

    def raw(self, method: str, path: str, body: str = "", kind: str = FORM) -> Response:
        """Send a body as it is; `path` may have a query."""
        headers = {**self.headers, "Content-Type": kind} if body else self.headers
        return self.cluster.handle(Request(method, f"/api2/json{path}", headers, body.encode()))

    def call(self, method: str, path: str, **params: Any) -> Response:
        """Send a request; `__` in names stands for a dash."""
        text = urlencode({name.replace("__", "-"): value for name, value in params.items()}, quote_via=quote)
        if method in ("GET", "DELETE"):
            return self.raw(method, f"{path}?{text}" if text else path)
        return self.raw(method, path, text)

    def data(self, method: str, path: str, **params: Any) -> Any:
        """The data of a call that succeeds."""
        response = self.call(method, path, **params)
        assert response.status == 200, f"{method} {path}: {response.status} {response.reason} {response.body!r}"
        return response.json()["data"]

    def fail(self, method: str, path: str, **params: Any) -> str:
        """The reason of a call that does not succeed."""
        response = self.call(method, path, **params)
        assert response.status != 200, response.body
        return response.reason

    def refused(self, method: str, path: str, **params: Any) -> str:
        """The status and the reason of a call that does not succeed."""
        response = self.call(method, path, **params)
        assert response.status != 200, response.body
        return f"{response.status} {response.reason}"

    def config(self, vmid: int, **params: Any) -> dict[str, Any]:
        """A guest's configuration, pending changes included unless `current` is asked for."""
        guest = self.cluster.guests[vmid]
        found: dict[str, Any] = self.data("GET", f"/nodes/{guest.node}/{guest.kind}/{vmid}/config", **params)
        return found

    def start(self, method: str, path: str, **params: Any) -> Task:
        """Start a task."""
        return self.cluster.tasks.all[self.data(method, path, **params)]

    def finish(self, task: Task) -> str:
        """Wait for a task; its exit status."""
        for _number in range(10_000):
            if task.end is not None:
                return str(task.status)
            self.cluster.clock.advance(0.1)
        raise AssertionError(f"{task.upid} does not end")

    def run(self, method: str, path: str, **params: Any) -> str:
        """The exit status of a task, once it has ended."""
        return self.finish(self.start(method, path, **params))

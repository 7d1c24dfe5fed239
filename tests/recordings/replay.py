"""The recorded runs played again, in order, on one simulated cluster for each file.

What the run did between two recorded exchanges (some were left out when it was recorded, some states were made by hand on the
node) is done by the scenes, as the names of the exchanges tell.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.simulator import Cluster, Request, Response

from .compare import differences

Json = Any
HERE = Path(__file__).resolve().parent
FILES = ("single-node", "cluster")


@dataclass(frozen=True)
class Exchange:
    """One line of a recording."""

    key: str  # file/name
    name: str
    request: Mapping[str, Json]
    response: Mapping[str, Json]

    @property
    def upid(self) -> str | None:
        """The UPID that the call returned."""
        data = (self.response.get("json") or {}).get("data")
        return data if isinstance(data, str) and data.startswith("UPID:") else None


@functools.cache
def exchanges(file: str) -> tuple[Exchange, ...]:
    """All exchanges of a file, in the order of the run."""
    lines = (HERE / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
    parsed = [json.loads(line) for line in lines]
    return tuple(Exchange(f"{file}/{line['name']}", line["name"], line["request"], line["response"]) for line in parsed)


@functools.cache
def left_out() -> Mapping[str, str]:
    """Exchanges that do not agree, with the reason."""
    reasons: Mapping[str, str] = json.loads((HERE / "left_out.json").read_text(encoding="utf-8"))
    return reasons


@dataclass
class Run:
    """A cluster, and the means to bring it where the recorded run was."""

    cluster: Cluster
    tokens: Mapping[str, str]  # recorded caller -> Authorization header
    upids: dict[str, str] = field(default_factory=dict)  # recorded -> simulated
    names: dict[str, str] = field(default_factory=dict)  # other names that differ, recorded -> simulated
    notes: dict[str, Json] = field(default_factory=dict)

    def wait(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.cluster.clock.advance(seconds)

    def until(self, time: float) -> None:
        """Let virtual time pass up to a time; nothing when it is over."""
        if time > self.cluster.clock.now():
            self.wait(time - self.cluster.clock.now())

    def handle(
        self,
        method: str,
        url: str,
        caller: str | None = "full",
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request; `url` is the raw one, with prefix and query."""
        sent = dict(headers or {})
        if caller is not None:
            sent["Authorization"] = self.tokens[caller]
        return self.cluster.handle(Request(method, url, sent, body))

    def send(self, method: str, path: str, **params: Json) -> Json:
        """A step that was not recorded: it must succeed. `__` in names stands for a dash; the data come back."""
        text = urlencode({name.replace("__", "-"): value for name, value in params.items()}, quote_via=quote)
        url = f"/api2/json{path}"
        if method in ("GET", "DELETE"):
            response = self.handle(method, f"{url}?{text}" if text else url)
        else:
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self.handle(method, url, body=text.encode(), headers=kind)
        assert response.status == 200, f"{method} {path}: {response.status} {response.reason} {response.body!r}"
        return response.json()["data"]

    def task(self, method: str, path: str, **params: Json) -> str:
        """A step that was not recorded and is a task: waits for its end, which must be good."""
        upid: str = self.send(method, path, **params)
        status = self.finish(upid)
        assert status == "OK" or str(status).startswith("WARNINGS"), f"{method} {path}: {status}"
        return upid

    def finish(self, upid: str, timeout: float = 600) -> str | None:
        """Wait for the end of a task; its exit status."""
        waited = 0.0
        path = f"/nodes/{upid.split(':')[1]}/tasks/{quote(upid, safe='')}/status"
        while waited < timeout:
            status = self.send("GET", path)
            if status["status"] == "stopped":
                return str(status["exitstatus"])
            self.wait(0.25)
            waited += 0.25
        return None

    def ticket(self) -> dict[str, str]:
        """Headers of a fresh ticket of root@pam."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"username": "root@pam", "password": "labpass"}).encode()
        data = self.handle("POST", "/api2/json/access/ticket", None, body=body, headers=form).json()["data"]
        cookie = f"PVEAuthCookie={quote(data['ticket'], safe='')}"
        return {"Cookie": cookie, "CSRFPreventionToken": data["CSRFPreventionToken"]}


def encode(request: Mapping[str, Json], names: Mapping[str, str] | None = None) -> bytes:
    """The body of a recorded request; `names` are replaced."""
    params = {name: (names or {}).get(value, value) for name, value in (request["params"] or {}).items()}
    if urlsplit(request["url"]).query or request["method"] in ("GET", "DELETE"):
        return b""
    if request["content_type"] == "application/json":
        return json.dumps(params).encode()
    return urlencode(params, quote_via=quote).encode()


Step = Callable[[Run], None]


def _play(run: Run, exchange: Exchange, headers: Mapping[str, str], body: bytes | None) -> list[str]:
    request = exchange.request
    if exchange.upid is not None:
        # Keep to the clock of the recorded run, so that what lagged then lags now.
        run.until(int(exchange.upid.split(":")[4], 16) - exchange.response["elapsed_s"])
    url = request["url"]
    for recorded, simulated in run.upids.items():
        url = url.replace(quote(recorded, safe=""), quote(simulated, safe=""))
    if exchange.name.endswith(".task-status"):
        for recorded, simulated in run.upids.items():
            if quote(recorded, safe="") in request["url"]:
                run.finish(simulated)
    sent = dict(headers)
    if request["content_type"]:
        sent["Content-Type"] = request["content_type"]
    if body is None:
        body = encode(request, run.names)
    response = run.handle(request["method"], url, request["auth"], body=body, headers=sent)
    try:
        answer = json.loads(response.body) if response.body else None
    except ValueError:
        answer = None
    if exchange.upid is not None and isinstance(answer, dict) and str(answer.get("data")).startswith("UPID:"):
        run.upids[exchange.upid] = answer["data"]
    return differences(exchange.response, response.status, response.reason, answer, response.body, response.seconds)


@functools.cache
def results(file: str) -> Mapping[str, list[str]]:
    """Play a file; for each exchange, by its key, in what it differs."""
    from . import scenes  # the scenes need what is above

    run = scenes.start(file)
    found: dict[str, list[str]] = {}
    for exchange in exchanges(file):
        step = scenes.BEFORE[file].get(exchange.name.split("-")[0])
        headers: Mapping[str, str] = {}
        body = None
        try:
            if step is not None:
                step(run)
            if exchange.name in scenes.HEADERS:
                headers = scenes.HEADERS[exchange.name](run)
            body = scenes.BODIES.get(exchange.name)
            found[exchange.key] = _play(run, exchange, headers, body)
        except (AssertionError, LookupError) as error:
            # A step before it failed: the exchange cannot be judged.
            found[exchange.key] = [f"not reached: {error!r}"]
        run.wait(0.02)
    if run.cluster.unmodelled:
        found[f"{file}/unmodelled"] = [str(entry) for entry in run.cluster.unmodelled]
    return found


def agreeing() -> int:
    """How many exchanges agree, of the files that were played."""
    keys = {exchange.key for file in FILES for exchange in exchanges(file)}
    return sum(not lines for file in FILES for key, lines in results(file).items() if key in keys)

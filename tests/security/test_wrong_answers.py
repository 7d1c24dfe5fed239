"""A server, or what sits in front of it, that answers anything: one message that names the request, and never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from ansible_collections.keel.proxmox.plugins.module_utils import transport

from tests import modules
from tests.promises.scenarios import SCENARIOS, Scenario
from tests.promises.world import USER, VirtualClock, World, make_world
from tests.simulator.adapter import ClusterAdapter

# What the collection reads at all: keys in quotes.
SOURCE = "".join(path.read_text(encoding="utf-8") for path in (modules.DIRECTORY.parent / "module_utils").glob("*.py"))

Change = Callable[[requests.Response], None]

CHOSEN = (
    *("vm_clone-shared", "vm_power-shutdown", "vm_config-grow-and-more", "vm_config-pool"),
    *(
        "snapshot-container-rollback",
        "migrate-online-local",
        "agent-info",
        "agent-exec-creates",
        "task_info-locks",
        "vm_power-start-reach",
    ),
    *("vm-create", "vm-restore", "vm-absent-template", "vm-template-container"),
)
CASES = list({str(scenario): scenario for scenario in SCENARIOS if str(scenario) in CHOSEN}.values())

WRONG: tuple[Any, ...] = (
    None,
    [],
    {},
    [[]],
    {"a": {}},
    "text",
    "{{ 1 }}\x1b[2J\n",
    -1,
    1.5,
    True,
    float("nan"),
    10**400,
)

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"<html>\x1b[31m</html>",
    "bad UTF-8": b'{"data":[{"vmid":"\xff\xfe","type":"\x80"}]}',
    "half of a pair": b'{"data":[{"vmid":100,"type":"qemu","node":"\\ud800","name":"\\ud800","id":"\\udfff"}]}',
    "deep list": b'{"data":' + b"[" * 900 + b"]" * 900 + b"}",
    "deeper list": b'{"data":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep object": b'{"data":' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}",
    "a megabyte of text": b'{"data":"' + b"A" * 1_000_000 + b'"}',
    "a megabyte of key": b'{"data":{"' + b"A" * 1_000_000 + b'":1}}',
    "a list": b"[1,2,3]",
    "a number": b"7",
    "no data": b"{}",
    "infinity": b'{"data":Infinity,"total":NaN}',
    "many digits": b'{"data":' + b"9" * 10_000 + b"}",
}


class Lying(ClusterAdapter):
    """Changes the answers to one request from its nth on."""

    def __init__(self, world: World) -> None:
        super().__init__(world.cluster)
        self.seen: list[tuple[str, str, bytes]] = []
        self.lie: tuple[str, str, Change] | None = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(request, *args, **kwargs)
        path = (request.url or "").partition("/api2/json")[2].partition("?")[0]
        self.seen.append((request.method or "", path, response.content))
        if self.lie is not None and self.lie[:2] == (request.method, path):
            self.lie[2](response)
        return response


def run(monkeypatch: pytest.MonkeyPatch, scenario: Scenario, lie: tuple[str, str, Change] | None) -> tuple[Any, Lying]:
    """Return the result of the module, and the adapter that has lied to it."""
    world = make_world(monkeypatch, scenario.setup)
    lying = Lying(world)
    session = requests.Session
    monkeypatch.setattr(transport, "_session", lambda adapter: _mounted(session(), lying))
    lying.lie = lie
    return world.run(
        scenario.module, {**scenario.options, **({"timeout": 60} if modules.waits(scenario.module) else {})}
    ), lying


def _mounted(session: requests.Session, adapter: ClusterAdapter) -> requests.Session:
    session.mount("https://", adapter)
    return session


def body(content: bytes) -> Change:
    def change(response: requests.Response) -> None:
        response._content = content

    return change


def lies(content: bytes) -> Iterator[tuple[str, Change]]:
    """Yield what may be wrong with an answer: all of it, and each of its keys."""
    for name in ("nothing", "no JSON", "deep object"):
        yield name, body(BODIES[name])
    data = json.loads(content)["data"] if content else None
    for value in WRONG[:7:2]:
        yield f"data is {str(value)[:20]!r}", body(json.dumps({"data": value}).encode())
    for key in _keys(data):
        for value in ({"a": {}}, "{{ 1 }}\x1b[2J\n"):
            yield f"{key} is {str(value)[:20]!r}", body(json.dumps({"data": _with(data, key, value)}).encode())
        yield f"no {key}", body(json.dumps({"data": _with(data, key, ...)}).encode())


def _keys(data: Any) -> list[str]:
    rows = data if isinstance(data, list) else [data]
    return sorted({key for row in rows if isinstance(row, dict) for key in row if f'"{key}"' in SOURCE})


def _with(data: Any, key: str, value: Any) -> Any:
    data = copy.deepcopy(data)
    for row in data if isinstance(data, list) else [data]:
        if isinstance(row, dict):
            row.pop(key, None)
            if value is not ...:
                row[key] = value
    return data


@pytest.mark.parametrize("scenario", CASES, ids=str)
def test_no_answer_crashes_a_module(monkeypatch: pytest.MonkeyPatch, scenario: Scenario) -> None:
    result, honest = run(monkeypatch, scenario, None)
    assert not result["failed"], result["msg"]
    asked = {(method, path): content for method, path, content in honest.seen}
    tried = 0
    for (method, path), content in asked.items():
        for name, change in lies(content):
            print(method, path, name)  # what a crash is put down to
            result, _lying = run(monkeypatch, scenario, (method, path, change))
            tried += 1
            if result["failed"]:
                check_message(result, f"{method} {path}: {name}")
    assert tried > 100


def check_message(result: dict[str, Any], case: str) -> None:
    """The message is one printable line, not too long."""
    assert result["msg"].isprintable(), (case, result["msg"])
    assert len(result["msg"]) < 5000, case
    assert all(line.isprintable() for line in result.get("log", ())), case


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_body_is_told_with_its_request(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    scenario = next(scenario for scenario in SCENARIOS if str(scenario) == "vm_power-shutdown")
    result, _lying = run(monkeypatch, scenario, ("GET", "/cluster/resources", body(BODIES[name])))
    assert result["failed"]
    assert "GET /cluster/resources" in result["msg"]
    assert "Proxmox VE" in result["msg"]
    assert result["request"] == "GET /cluster/resources"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("content", [b"", b'{"data":[]}'])
def test_a_redirect_is_refused_whatever_it_holds(monkeypatch: pytest.MonkeyPatch, status: int, content: bytes) -> None:
    def redirect(response: requests.Response) -> None:
        response.status_code = status
        response.headers["Location"] = "https://evil.example/\x1b[31m"
        response._content = content

    scenario = next(scenario for scenario in SCENARIOS if str(scenario) == "vm_power-shutdown")
    result, lying = run(monkeypatch, scenario, ("GET", "/cluster/resources", redirect))
    assert result["failed"]
    assert f"status {status}" in result["msg"]
    assert "evil.example" in result["msg"]
    assert result["msg"].isprintable()
    assert {request.url.split("/")[2] for request in lying.sent if request.url} == {"pve1:8006"}
    assert len(lying.seen) == 1


@pytest.mark.parametrize("date", ["", "tomorrow", "Mon, 99 Foo 9999 99:99:99 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"])
def test_a_date_that_is_none(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    def change(response: requests.Response) -> None:
        response.headers["Date"] = date

    scenario = next(scenario for scenario in SCENARIOS if str(scenario) == "vm_power-start")
    result, _lying = run(monkeypatch, scenario, ("GET", "/cluster/resources", change))
    assert not result["failed"], result["msg"]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("key", ["ticket", "CSRFPreventionToken", "NeedTFA"])
def test_a_login_that_answers_anything(monkeypatch: pytest.MonkeyPatch, key: str, value: Any) -> None:
    world = make_world(monkeypatch)
    world.cluster.access.users["root@pam"].password = "right"
    lying = Lying(world)
    monkeypatch.setattr(transport, "_session", lambda adapter: _mounted(requests.Session(), lying))

    def change(response: requests.Response) -> None:
        response._content = json.dumps({"data": _with(response.json()["data"], key, value)}).encode()

    lying.lie = ("POST", "/access/ticket", change)
    options = {"api_host": ["pve1"], "api_user": USER, "api_password": "right", "vmid": 101, "state": "started"}
    result = modules.run("proxmox_vm_power", options, clock=VirtualClock(world.cluster))
    if result["failed"]:
        check_message(result, f"{key} {value}")

"""The guest agent, as the server's sources have it."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from tests.simulator import Cluster
from tests.simulator.engine.agent import inside_of
from tests.simulator.engine.model import Guest, Ran

from .api import Api

VM = "/nodes/pve1/qemu/100"
AGENT = f"{VM}/agent"


@pytest.fixture(name="guest")
def _guest(cluster: Cluster) -> Guest:
    guest = cluster.add_vm(100, running=True, config={"agent": "1"})
    cluster.clock.advance(60.0)
    return guest


def test_the_order_of_refusals(cluster: Cluster, api: Api, guest: Guest) -> None:
    for command in ("exec-status?pid=1", "file-read?file=/x", "info"):
        guest.behaviour.agent = False
        began = cluster.now
        assert api.refused("GET", f"{AGENT}/{command}") == "500 QEMU guest agent is not running"
        assert 3.0 <= cluster.now - began < 3.1
    power, guest.power = guest.power, None
    assert api.refused("POST", f"{AGENT}/ping") == "500 VM 100 is not running"
    del guest.config["agent"]
    assert api.refused("POST", f"{AGENT}/ping") == "500 No QEMU guest agent configured"
    guest.power = power
    assert api.refused("POST", f"{AGENT}/ping") == "500 No QEMU guest agent configured"


def execute(api: Api, *command: str, stdin: str | None = None) -> int:
    body = "&".join(f"command={quote(part)}" for part in command)
    body += f"&input-data={quote(stdin)}" if stdin is not None else ""
    response = api.raw("POST", f"{AGENT}/exec", body)
    assert response.status == 200, response.reason
    pid: int = response.json()["data"]["pid"]
    return pid


def test_a_program_is_told_once(cluster: Cluster, api: Api, guest: Guest) -> None:
    guest.behaviour.programs["long"] = lambda inside, arguments, stdin: Ran(5.0, 2, None, b"out", "ü".encode())
    pid = execute(api, "long", "x y")
    assert inside_of(guest).ran == [["long", "x y"]]
    assert api.data("GET", f"{AGENT}/exec-status", pid=pid) == {"exited": 0}
    cluster.clock.advance(6.0)
    told = api.data("GET", f"{AGENT}/exec-status", pid=pid)
    assert told == {"exited": 1, "exitcode": 2, "out-data": "out", "err-data": "Ã¼"}
    assert api.refused("GET", f"{AGENT}/exec-status?pid={pid}") == f"500 Agent error: PID {pid} does not exist"


def test_arguments_in_a_form_and_in_json(api: Api, guest: Guest) -> None:
    api.raw("POST", f"{AGENT}/exec", "command=echo&command=&command=true")
    api.raw("POST", f"{AGENT}/exec", '{"command":["echo","","true"]}', "application/json")
    # An empty value in a form is none, and forgets those before it (PVE/APIServer/AnyEvent.pm, decode_urlencoded).
    assert inside_of(guest).ran == [["true"], ["echo", "", "true"]]


def test_long_output_is_cut_off(cluster: Cluster, api: Api, guest: Guest) -> None:
    guest.behaviour.programs["much"] = lambda inside, arguments, stdin: Ran(out=b"x" * (16 * 1024 * 1024 + 1))
    pid = execute(api, "much")
    cluster.clock.advance(1.0)
    told = api.data("GET", f"{AGENT}/exec-status", pid=pid)
    assert (len(told["out-data"]), told["out-truncated"]) == (16 * 1024 * 1024, 1)


def test_input_is_bytes(cluster: Cluster, api: Api, guest: Guest) -> None:
    for text, out in (("ü".encode().decode("latin-1"), "Ã¼"), ("ü", "ü")):
        pid = execute(api, "cat", stdin=text)
        cluster.clock.advance(1.0)
        assert api.data("GET", f"{AGENT}/exec-status", pid=pid)["out-data"] == out
    assert "Wide character" in api.fail("POST", f"{AGENT}/exec", command="cat", **{"input-data": "€"})


def test_programs_and_processes_end_with_the_guest(cluster: Cluster, api: Api, guest: Guest) -> None:
    pid = execute(api, "sleep", "1000")
    inside_of(guest).frozen = True
    guest.power = None
    cluster.start_now(100)
    cluster.clock.advance(60.0)
    assert "does not exist" in api.fail("GET", f"{AGENT}/exec-status", pid=pid)


def test_files(api: Api, guest: Guest) -> None:
    missing = "500 Agent error: failed to open file '/srv/x' (mode: 'r'): No such file or directory"
    assert api.refused("GET", f"{AGENT}/file-read?file=/srv/x") == missing
    assert api.refused("GET", f"{AGENT}/file-read?file=/srv") == "500 Agent error: failed to read file: Is a directory"
    assert "mode: 'wb'" in api.fail("POST", f"{AGENT}/file-write", file="/none/x", content="a")
    assert api.data("POST", f"{AGENT}/file-write", file="/srv/x", content="abc") is None
    read = f"{AGENT}/file-read?file=/srv/x"
    assert api.data("GET", read) == {"content": "abc", "bytes-read": 3}
    # A read of exactly what is there does not see the end.
    assert api.data("GET", f"{read}&count=3") == {"content": "abc", "bytes-read": 3, "truncated": 1}
    assert api.data("GET", f"{read}&count=4&offset=1&decode=0") == {"content": "YmM=", "bytes-read": 2}
    encoded = base64.b64encode(b"\x00\xff").decode()
    api.data("POST", f"{AGENT}/file-write", file="/srv/x", content=encoded, encode=0)
    assert api.data("GET", read)["content"] == "\x00ÿ"
    assert "not valid" in api.fail("POST", f"{AGENT}/file-write", file="/srv/x", content="?", encode=0)
    too_long = api.call("POST", f"{AGENT}/file-write", file="/srv/x", content="x" * (60 * 1024 + 1))
    assert "61440 characters" in too_long.json()["errors"]["content"]


def test_a_frozen_agent_does_little(api: Api, guest: Guest) -> None:
    assert api.data("POST", f"{AGENT}/fsfreeze-status") == {"result": "thawed"}
    assert api.data("POST", f"{AGENT}/fsfreeze-freeze") == {"result": 1}
    assert api.data("POST", f"{AGENT}/fsfreeze-status") == {"result": "frozen"}
    disabled = "has been disabled: the agent is in frozen state"
    # Without parameters the agent's error is a result, with them a failure.
    for method, command in (("POST", "fstrim"), ("POST", "fsfreeze-freeze"), ("GET", "get-osinfo")):
        told = api.data(method, f"{AGENT}/{command}")["result"]["error"]
        assert (told["class"], told["desc"]) == ("CommandNotFound", f"Command guest-{command} {disabled}")
    assert disabled in api.fail("GET", f"{AGENT}/file-read?file=/srv")
    enabled = {
        one["name"] for one in api.data("GET", f"{AGENT}/info")["result"]["supported_commands"] if one["enabled"]
    }
    assert "guest-fsfreeze-thaw" in enabled
    assert "guest-exec" not in enabled
    assert api.data("POST", f"{AGENT}/fsfreeze-thaw") == {"result": 1}
    assert api.data("POST", f"{AGENT}/fsfreeze-thaw") == {"result": 0}


def test_an_agent_that_is_busy_is_as_good_as_dead(cluster: Cluster, api: Api, guest: Guest) -> None:
    guest.behaviour.agent_seconds = {"guest-fstrim": 40.0, "guest-get-time": 6.0}
    began = cluster.now
    assert api.call("POST", f"{AGENT}/fstrim").status == 596
    assert 30.0 <= cluster.now - began < 30.1
    assert api.refused("POST", f"{AGENT}/ping") == "500 QEMU guest agent is not running"
    cluster.clock.advance(4.0)
    assert api.data("POST", f"{AGENT}/ping") == {"result": {}}
    assert inside_of(guest).trims == 1
    began = cluster.now
    assert api.fail("GET", f"{AGENT}/get-time") == "VM 100 qga command 'guest-get-time' failed - got timeout"
    assert 5.0 <= cluster.now - began < 5.1


def test_passwords(api: Api, guest: Guest) -> None:
    path = f"{AGENT}/set-user-password"
    assert api.data("POST", path, username="root", password="geheim", crypted=1) == {"result": {}}
    assert inside_of(guest).passwords["root"] == ("geheim", True)
    assert "failed to set user password" in api.fail("POST", path, username="nobody", password="geheim")
    assert "forbidden characters" in api.fail("POST", path, username="root", password="geh\neim")
    assert (
        "at least 5 characters" in api.call("POST", path, username="root", password="geh").json()["errors"]["password"]
    )

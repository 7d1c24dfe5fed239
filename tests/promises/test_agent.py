"""What is inside a guest, through an agent that is slow, silent, busy, restarted or lost on the way."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest

from tests.simulator import Fault
from tests.simulator.engine.agent import inside_of
from tests.simulator.engine.model import Inside

from .world import World, make_world

EXEC = r"/nodes/pve1/qemu/100/agent/exec$"
STATUS = r"/nodes/pve1/qemu/100/agent/exec-status"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def agent(world: World, action: str, **options: Any) -> dict[str, Any]:
    return world.run("proxmox_agent", {"vmid": 100, "action": action, **options})


def inside(world: World) -> Inside:
    return inside_of(world.cluster.guests[100])


def asked(world: World) -> list[float]:
    """Return when the agent was asked anything."""
    return [entry.time for entry in world.cluster.log if "/agent/" in entry.template]


def test_a_program_as_command_returns_it(world: World) -> None:
    result = agent(world, "exec", argv=["cat"], stdin="Grüße\nzwei\n")
    assert (result["rc"], result["stdout"], result["stdout_lines"]) == (0, "Grüße\nzwei", ["Grüße", "zwei"])
    assert result["changed"] is True
    failed = agent(world, "exec", argv=["sh", "-c", "exit 3"])
    assert failed["failed"]
    assert (failed["rc"], failed["stderr"]) == (3, "going")
    assert "exit code 3: going" in failed["msg"]
    killed = agent(world, "exec", argv=["sh", "-c", "kill -9 $$"])
    assert (killed["failed"], killed["rc"], killed["signal"]) == (True, -9, 9)
    # In a form the server would forget everything before an empty argument.
    assert agent(world, "exec", argv=["echo", "a", "", "b"])["stdout"] == "a  b"


def test_a_program_that_does_not_exist_was_not_run(world: World) -> None:
    result = agent(world, "exec", cmd="nonesuch")
    assert result["failed"]
    assert (result["changed"], result["rc"]) == (False, None)
    assert "Failed to execute child process" in result["msg"]


def test_a_program_that_takes_its_time_is_asked_after_gently(world: World) -> None:
    assert agent(world, "exec", cmd="sleep 300")["rc"] == 0
    assert len(asked(world)) < 100
    endless = agent(world, "exec", cmd="sleep 3000", timeout=60)
    assert endless["failed"]
    assert endless["rc"] is None
    assert "Gave up waiting for the program" in endless["msg"]
    assert "again" not in endless["msg"].partition("Done before")[0], "running again would start it again"


@pytest.mark.parametrize(
    ("kind", "when"), [("reset", "before"), ("reset", "after"), (596, "after"), ("silence", "after")]
)
def test_a_program_is_not_started_twice(world: World, kind: Any, when: str) -> None:
    world.cluster.add_fault(Fault(method="POST", path=EXEC, when=when, kind=kind))  # type: ignore[arg-type]
    result = agent(world, "exec", cmd="true")
    assert result["failed"]
    assert (
        "Whether this was done is not known: run true in VM 100; look there before it is done again." in result["msg"]
    )
    assert result["changed"] is True
    assert len(inside(world).ran) == (0 if when == "before" else 1)
    assert len(world.cluster.log.writes()) == 1


def test_an_agent_that_takes_longer_than_the_server_waits_may_have_started_it(world: World) -> None:
    world.cluster.guests[100].behaviour.agent_seconds = {"guest-exec": 7.0}
    result = agent(world, "exec", cmd="true")
    assert result["failed"]
    assert "not known: run true in VM 100" in result["msg"]
    world.settle()
    assert len(inside(world).ran) == 1


def test_an_end_that_was_told_and_lost_is_not_made_up(world: World) -> None:
    world.cluster.add_fault(Fault(method="GET", path=STATUS, nth=2, when="after", kind="reset"))
    result = agent(world, "exec", cmd="true")
    assert result["failed"]
    assert "how it ended is not known" in result["msg"]
    assert result["changed"] is True
    assert result["rc"] is None


def test_a_guest_that_stops_meanwhile(world: World) -> None:
    world.cluster.scheduler.after(20.0, lambda: setattr(world.cluster.guests[100], "power", None))
    result = agent(world, "exec", cmd="sleep 100")
    assert result["failed"]
    assert "the guest has stopped meanwhile" in result["msg"]


def test_a_silent_agent_is_asked_every_five_seconds_at_most(world: World) -> None:
    world.cluster.guests[100].behaviour.agent = False
    result = agent(world, "ping", timeout=60)
    assert result["failed"]
    assert "Gave up waiting for the guest agent of VM 100 to answer" in result["msg"]
    times = asked(world)
    assert 5 < len(times) < 13
    # The last look is at the deadline.
    assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(times[:-1]))
    assert agent(world, "ping", wait=False)["agent"]["answers"] is False
    assert agent(world, "read", path="/etc/hostname", wait=False)["failed"]


def test_files_hold_any_bytes(world: World) -> None:
    content = bytes(range(256)) * 240
    text = base64.b64encode(content).decode()
    assert len(content) == 60 * 1024
    assert agent(world, "write", path="/srv/all", content=text, encoding="base64")["changed"] is True
    assert inside(world).files["/srv/all"] == content
    assert agent(world, "write", path="/srv/all", content=text, encoding="base64")["changed"] is False
    read = agent(world, "read", path="/srv/all")
    assert (base64.b64decode(read["content"]), read["truncated"]) == (content, False)
    part = agent(world, "read", path="/srv/all", max_bytes=1000)
    assert (base64.b64decode(part["content"]), part["truncated"]) == (content[:1000], True)


def test_files_that_are_not_there(world: World) -> None:
    assert "There is no file '/srv/none' in VM 100" in agent(world, "read", path="/srv/none")["msg"]
    assert "is a directory" in agent(world, "read", path="/srv")["msg"]
    assert "No such file or directory" in agent(world, "write", path="/none/x", content="a")["msg"]


def test_a_freeze_that_takes_longer_than_the_proxy_waits_is_seen_by_its_effect(world: World) -> None:
    world.cluster.guests[100].behaviour.agent_seconds = {"guest-fsfreeze-freeze": 50.0}
    result = agent(world, "freeze")
    assert not result["failed"], result["msg"]
    assert (result["changed"], result["frozen"]) == (True, True)
    assert len(world.cluster.log.writes()) == 1
    refused = agent(world, "write", path="/srv/x", content="a")
    assert "thaw them first" in refused["msg"]


def test_a_trim_that_takes_longer_than_the_proxy_waits_is_done_once(world: World) -> None:
    world.cluster.guests[100].behaviour.agent_seconds = {"guest-fstrim": 100.0}
    result = agent(world, "trim")
    assert not result["failed"], result["msg"]
    assert inside(world).trims == len(world.cluster.log.writes()) == 1
    assert result["warnings"]


def test_what_the_agent_itself_forbids_is_told(world: World) -> None:
    world.cluster.guests[100].behaviour.agent_blocked = frozenset({"guest-exec", "guest-fstrim"})
    for action, options in (("exec", {"cmd": "true"}), ("trim", {})):
        result = agent(world, action, **options)
        assert result["failed"]
        assert "has been disabled" in result["msg"]
        assert result["changed"] is False
    assert "guest-exec" not in agent(world, "info")["agent"]["commands"]


@pytest.mark.parametrize(
    ("vmid", "says"), [(101, "is stopped"), (102, "is stopped"), (200, "no guest agent"), (103, "not enabled")]
)
def test_guests_without_an_agent_are_told_at_once(world: World, vmid: int, says: str) -> None:
    world.cluster.add_ct(200, "box", running=True)
    world.cluster.add_vm(103, "bare", running=True)
    began = world.cluster.now
    result = world.run("proxmox_agent", {"vmid": vmid, "action": "ping"})
    assert says in result["msg"]
    assert world.cluster.now - began < 1.0


def test_a_password_of_any_letters(world: World) -> None:
    result = agent(world, "password", username="root", password="gehürtes €")
    assert not result["failed"], result["msg"]
    assert inside(world).passwords["root"] == ("gehürtes €", False)
    assert "geh" not in str(result["calls"])


# Waiting for a guest that is started


def test_a_start_is_waited_for_until_the_address_is_there(world: World) -> None:
    guest = world.cluster.guests[101]
    guest.config["agent"] = "1"
    guest.behaviour.boot_seconds = 30.0
    guest.behaviour.addresses = ("192.168.7.9/24", "10.1.2.3/8")
    options = {"vmid": 101, "state": "started", "wait_for": "ip", "preferred_networks": ["10.0.0.0/8"]}
    began = world.cluster.now
    result = world.run("proxmox_vm_power", options)
    assert (result["ip"], result["addresses"]) == ("10.1.2.3", ["10.1.2.3", "192.168.7.9"])
    assert 30.0 <= world.cluster.now - began < 45.0
    again = world.run("proxmox_vm_power", options)
    assert (again["changed"], again["ip"]) == (False, "10.1.2.3")


def test_a_restart_is_waited_for_by_the_new_start(world: World) -> None:
    result = world.run("proxmox_vm_power", {"vmid": 100, "state": "restarted", "wait_for": "agent"})
    assert not result["failed"], result["msg"]
    power = world.cluster.guests[100].power
    assert power is not None
    assert world.cluster.now - power.booted >= world.cluster.guests[100].behaviour.boot_seconds


def test_nobody_waits_for_an_agent_that_is_not_enabled(world: World) -> None:
    result = world.run("proxmox_vm_power", {"vmid": 101, "state": "started", "wait_for": "agent"})
    assert "not enabled" in result["msg"]
    assert not world.cluster.guests[101].running
    refused = world.run("proxmox_vm_power", {"vmid": 101, "state": "stopped", "wait_for": "ip"})
    assert "for guests that are to run" in refused["msg"]

"""What the agent is told to do: options that contradict each other, what is left to do, and what comes of the answers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils import agent
from ansible_collections.keel.proxmox.plugins.module_utils import agent_actions as actions
from ansible_collections.keel.proxmox.plugins.module_utils.errors import ProxmoxError, Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest
from ansible_collections.keel.proxmox.plugins.module_utils.hosts import Networks, networks
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Outcome

from .fakes import FakeReader

VM = Guest(100, "qemu", "pve1", "web", "running")
CT = Guest(200, "lxc", "pve1", "box", "running")
CONFIG = {"agent": "1", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}
COMMANDS = [{"name": name, "enabled": True} for name in ("guest-ping", "guest-exec", "guest-fsfreeze-freeze")]
THAWED = {"supported_commands": COMMANDS}
FROZEN = {"supported_commands": [{**one, "enabled": one["name"] in actions.FREEZE_SAFE} for one in COMMANDS]}
SILENT = ProxmoxError("GET x failed with status 500: QEMU guest agent is not running.", status=500)


def want(**options: Any) -> actions.Wanted:
    return actions.wanted({"vmid": 100, **options})


def seen(**more: Any) -> actions.Observed:
    return actions.Observed(VM, CONFIG, **{"info": THAWED, **more})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"action": "exec"}, "cmd and argv"),
        ({"action": "exec", "cmd": "a", "argv": ["a"]}, "cmd and argv"),
        ({"action": "exec", "cmd": "say 'a"}, "argv"),
        ({"action": "exec", "cmd": " "}, "program"),
        ({"action": "exec", "argv": ["", "x"]}, "program"),
        ({"action": "exec", "argv": ["cat"], "stdin": "x" * 64 * 1024}, "65537 bytes"),
        ({"action": "read"}, "needs path"),
        ({"action": "read", "path": "/x", "max_bytes": 0}, "max_bytes is 0"),
        ({"action": "write", "path": "/x"}, "needs content"),
        ({"action": "write", "content": "x"}, "needs path"),
        ({"action": "write", "path": "/x", "content": "ü" * 30721}, "61442 bytes"),
        ({"action": "write", "path": "/x", "content": "?", "encoding": "base64"}, "not base64"),
        ({"action": "password", "username": "root"}, "needs password"),
        ({"action": "ping", "cmd": "true"}, "cmd is for action=exec"),
        ({"action": "ping", "path": "/x"}, "path is for action=read and action=write"),
        ({"action": "interfaces", "refused_networks": ["x"]}, "refused_networks"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        want(**options)


def test_a_command_is_split_as_a_shell_would() -> None:
    assert want(action="exec", cmd="echo 'a b' c").argv == ("echo", "a b", "c")
    assert want(action="exec", argv=["echo", ""]).argv == ("echo", "")
    assert want(action="exec", cmd="cat", stdin="ü").stdin == "ü\n".encode()
    assert want(action="exec", cmd="cat", stdin="ü", stdin_add_newline=False).stdin == "ü".encode()


def test_content_is_bytes() -> None:
    assert want(action="write", path="/x", content="ü").content == "ü".encode()
    assert want(action="write", path="/x", content="AP8=", encoding="base64").content == b"\x00\xff"


def test_bytes_travel_as_texts_of_one_character_each() -> None:
    (call,) = actions.decide(want(action="write", path="/x", content="ü"), seen(files={"/x": None}), ()).calls
    assert call.params == {"file": "/x", "content": "Ã¼"}
    assert call.shown()["params"] == {"file": "/x", "content": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        (None, True),
        (actions.File(b"a"), False),
        (actions.File(b"b"), True),
        (actions.File(b"a", whole=False), True),
        (actions.File(b""), True),
    ],
)
def test_a_file_is_written_when_it_differs(file: actions.File | None, changes: bool) -> None:
    plan = actions.decide(want(action="write", path="/x", content="a"), seen(files={"/x": file}), ())
    assert bool(plan.calls) is changes
    assert (plan.before != plan.after) is changes


def test_a_directory_is_no_file() -> None:
    for options in ({"action": "write", "content": "a"}, {"action": "read"}):
        with pytest.raises(Refused, match="directory"):
            actions.decide(want(path="/x", **options), seen(files={"/x": actions.File(None)}), ())


@pytest.mark.parametrize(
    ("options", "there", "runs"),
    [
        ({}, (), True),
        ({"creates": "/c"}, (), True),
        ({"creates": "/c"}, ("/c",), False),
        ({"removes": "/r"}, (), False),
        ({"removes": "/r"}, ("/r",), True),
        ({"creates": "/c", "removes": "/r"}, ("/c", "/r"), False),
        ({"creates": "/c", "removes": "/r"}, ("/r",), True),
    ],
)
def test_when_a_program_runs(options: dict[str, str], there: tuple[str, ...], runs: bool) -> None:
    files = {path: actions.File(b"") if path in there else None for path in options.values()}
    wanted, observed = want(action="exec", cmd="true", **options), seen(files=files)
    plan = actions.decide(wanted, observed, ())
    assert bool(plan.calls) is runs
    assert all(call.once for call in plan.calls)
    shown = actions.result(wanted, observed)
    assert ("msg" in shown) is not runs
    assert shown["rc"] == (None if runs else 0)


@pytest.mark.parametrize(
    ("ended", "code", "says"),
    [
        ({"exited": 1, "exitcode": 0, "out-data": "Ã¼\n\n"}, 0, None),
        ({"exited": 1, "exitcode": 3, "err-data": "no\n"}, 3, "exit code 3: no"),
        ({"exited": 1, "exitcode": 3}, 3, "exit code 3."),
        ({"exited": 1, "signal": 9}, -9, "signal 9"),
    ],
)
def test_how_a_program_ends(ended: dict[str, Any], code: int, says: str | None) -> None:
    wanted, observed = want(action="exec", cmd="x"), seen(pid=7, ended=ended)
    plan = actions.decide(wanted, observed, ())
    assert not plan.calls
    assert plan.waiting is None
    assert plan.failure is None if says is None else says in str(plan.failure)
    shown = actions.result(wanted, observed)
    assert shown["rc"] == code
    if code == 0:
        assert (shown["stdout"], shown["stdout_lines"]) == ("ü", ["ü"])


def test_a_program_is_asked_after_more_and_more_seldom() -> None:
    waits = [actions.decide(want(action="exec", cmd="x"), seen(pid=7, looks=looks), ()).pause for looks in (1, 10, 100)]
    assert waits == [0.1, 1.0, agent.AGENT_PAUSE]


@pytest.mark.parametrize(
    ("action", "info", "changes"),
    [("freeze", THAWED, True), ("freeze", FROZEN, False), ("thaw", FROZEN, True), ("thaw", THAWED, False)],
)
def test_frozen_is_a_state(action: str, info: dict[str, Any], changes: bool) -> None:
    plan = actions.decide(want(action=action), seen(info=info), ())
    assert [call.path.rpartition("/")[2] for call in plan.calls] == ([f"fsfreeze-{action}"] if changes else [])


@pytest.mark.parametrize("action", ["ping", "freeze", "thaw", "trim"])
def test_an_agent_that_is_silent_is_waited_for_without_haste(action: str) -> None:
    plan = actions.decide(want(action=action), seen(info=None, silent="it is not running"), ())
    assert plan.waiting == "the guest agent of VM 100 to answer"
    assert plan.pause == agent.AGENT_PAUSE


def test_a_trim_whose_answer_was_lost_is_seen_at_work() -> None:
    lost = actions.answered(seen(), None)
    assert actions.decide(want(action="trim"), lost, ()).calls, "nobody is at work on it: it was not begun"
    busy = actions.decide(want(action="trim"), seen(lost=True, busy=True, silent="busy"), ())
    assert (busy.calls, busy.pause) == ((), agent.AGENT_PAUSE)
    done = actions.decide(want(action="trim"), seen(lost=True, busy=True), ())
    assert (done.calls, done.waiting, len(done.warnings)) == ((), None, 1)


def test_answers() -> None:
    assert actions.answered(seen(), Outcome({"pid": 703})).pid == 703
    assert actions.answered(seen(), Outcome({"result": {"paths": [{"path": "/"}]}})).told == {
        "trimmed": [{"path": "/"}]
    }
    with pytest.raises(Refused, match="not supported"):
        actions.answered(seen(), Outcome({"result": {"error": {"desc": "not supported"}}}))
    for nonsense in (None, [], {"pid": {}}, {"pid": "x"}, {"result": []}):
        assert actions.answered(seen(), Outcome(nonsense)).pid is None


# What waiting for a guest asks and answers


def interfaces(*addresses: str) -> dict[str, Any]:
    told = [{"ip-address": address, "prefix": 24} for address in addresses]
    return {"result": [{"name": "eth0", "hardware-address": "bc:24:11:00:00:01", "ip-addresses": told}]}


def test_the_best_address_goes_first() -> None:
    reader = FakeReader({f"{VM.path}/agent/network-get-interfaces": interfaces("127.0.0.1", "192.168.0.5", "10.0.0.5")})
    liked = Networks(networks("x", ["10.0.0.0/8"]), networks("x", ["172.16.0.0/12"]))
    reached = agent.reach(reader, VM, CONFIG, liked)
    assert (reached.ip, reached.addresses) == ("10.0.0.5", ("10.0.0.5", "192.168.0.5"))
    assert agent.missing(VM, reached, "ip") == (None, 0.0)


def test_what_is_missing() -> None:
    path = f"{VM.path}/agent/network-get-interfaces"
    silent = agent.reach(FakeReader({path: SILENT}), VM, CONFIG, Networks())
    assert agent.missing(VM, silent, "none") == (None, 0.0)
    for wait_for in ("agent", "ip"):
        assert agent.missing(VM, silent, wait_for) == ("the guest agent of VM 100 to answer", agent.AGENT_PAUSE)
    early = agent.reach(FakeReader({path: interfaces("fe80::1")}), VM, CONFIG, Networks())
    assert agent.missing(VM, early, "agent") == (None, 0.0)
    assert agent.missing(VM, early, "ip")[0] == "VM 100 to have an IP address"
    mute = agent.reach(FakeReader({path: {"result": {"error": {"desc": "it is forbidden"}}}}), VM, CONFIG, Networks())
    assert agent.missing(VM, mute, "agent") == (None, 0.0)
    with pytest.raises(Refused, match="it is forbidden"):
        agent.missing(VM, mute, "ip")


def test_containers_have_no_agent() -> None:
    config = {"net0": "name=eth0,hwaddr=BC:24:11:00:00:01"}
    early = agent.reach(FakeReader({f"{CT.path}/interfaces": None}), CT, config, Networks())
    agent.check_enabled(CT, config)
    assert agent.missing(CT, early, "agent") == (None, 0.0)
    assert agent.missing(CT, early, "ip")[0] == "CT 200 to have an IP address"


def test_an_agent_that_nobody_would_ask_is_not_waited_for() -> None:
    for config in ({}, {"agent": "0"}, {"agent": "enabled=0,fstrim_cloned_disks=1"}):
        with pytest.raises(Refused, match="not enabled"):
            agent.check_enabled(VM, config)


def test_what_is_no_silence_is_told() -> None:
    denied = ProxmoxError("Permission check failed", status=403)
    with pytest.raises(ProxmoxError, match="Permission"):
        agent.reach(FakeReader({f"{VM.path}/agent/network-get-interfaces": denied}), VM, CONFIG, Networks())

"""A whole guest: what is made of options, what is asked, in which order the parts act, and what deletes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError, Refused
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call, Plan
from ansible_collections.keel.proxmox.plugins.module_utils.vm import FEATURE, Observed, decide, observe, wanted
from ansible_collections.keel.proxmox.plugins.modules.proxmox_vm import ARGUMENTS, CONSTRAINTS

from .fakes import FakeReader, absent

NODES = [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "offline"}]
VM = "/nodes/pve1/qemu/100"
ROW = {"type": "qemu", "vmid": 100, "node": "pve1", "id": "qemu/100", "name": "web", "status": "stopped"}
CONFIG = {"name": "web", "cores": "2", "memory": "1024", "agent": "1", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}


def options(**named: Any) -> dict[str, Any]:
    """Return the options of a task as the module gets them."""
    checked = ArgumentSpecValidator(ARGUMENTS, **CONSTRAINTS).validate(named)
    assert not checked.error_messages, checked.error_messages
    return dict(checked.validated_parameters)


def pending(config: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in config.items()] + [{"key": "digest", "value": "d1"}]


def server(config: dict[str, str] | None = None, status: dict[str, Any] | None = None, **more: Any) -> FakeReader:
    """Return a cluster with the one guest 100, or with none where there is no config."""
    there = config is not None
    current = {"status": "stopped", "name": (config or {}).get("name"), **(status or {})}
    answers: dict[str, Any] = {
        "/cluster/resources": [{**ROW, "status": current["status"]}] if there else [],
        "/cluster/nextid": "100",
        "/nodes": NODES,
        "/nodes/pve1/qemu": [],
        "/nodes/pve1/lxc": [],
        f"{VM}/status/current": current if there else absent(VM),
        f"{VM}/pending": pending(config) if config is not None else absent(VM),
    }
    return FakeReader({**answers, **more})


def look(reader: FakeReader, **named: Any) -> tuple[Observed, Plan]:
    want = wanted(options(**named))
    seen = observe(want, reader, None)
    return seen, decide(want, seen, ())


def summaries(plan: Plan) -> list[str]:
    return [call.summary for call in plan.calls]


# --- options ---


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"name": "a", "clone": "b", "archive": "c"}, "clone and archive are two ways"),
        ({"vmid": 100, "full": True}, "full says how a guest is made from clone"),
        ({"vmid": 100, "clone": "a", "unique": True}, "unique says how a guest is made from archive"),
        ({"vmid": 100, "password": "x"}, "password says how a guest is made from ostemplate"),
        ({"name": "a", "archive": "local:backup/x"}, "archive needs vmid"),
        ({"vmid": 100, "ostemplate": "a", "type": "qemu"}, "ostemplate makes a CT, and type=qemu"),
        ({"vmid": 100, "archive": "local:backup/vzdump-qemu-1.vma", "type": "lxc"}, "archive makes a VM, and type=lxc"),
        ({"vmid": 100, "state": "template", "power": "started"}, "A template does not run"),
        ({"vmid": 100, "power": "stopped", "wait_for": "ip"}, "wait_for=ip is for guests that are to run"),
        ({"vmid": 100, "state": "absent", "wait_for": "agent"}, "wait_for=agent is for guests that are to run"),
        ({"vmid": 99}, "no VMID"),
        ({"name": "a_b"}, "cannot be the name of a guest"),
    ],
)
def test_options_that_contradict_each_other(named: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        wanted(options(**named))


# --- making ---


def test_a_guest_from_nothing_is_one_call_with_everything_in_it() -> None:
    _seen, plan = look(
        server(),
        name="web",
        node="pve1",
        cores=2,
        memory=512,
        pool="prod",
        net={"net0": {"bridge": "vmbr0"}},
        disks={"scsi0": {"storage": "lvm", "size": 8}},
        cipassword="secret",
        power="started",
    )
    create, start = plan.calls
    # 512 MiB are what a VM has anyway.
    assert create.params == {
        "vmid": 100,
        "name": "web",
        "pool": "prod",
        "cipassword": "secret",
        "cores": 2,
        "net0": "virtio,bridge=vmbr0",
        "scsi0": "lvm:8",
    }
    assert (create.method, create.path, create.secret) == ("POST", "/nodes/pve1/qemu", {"cipassword"})
    assert (start.path, plan.before) == (f"{VM}/status/start", {"guest": None})
    assert plan.after["guest"] == {"vmid": 100, "node": "pve1", "name": "web"}


def test_an_image_is_grown_before_the_start() -> None:
    disk = {"storage": "lvm", "import_from": "local:import/a.qcow2", "size": "6G"}
    _seen, plan = look(server(), vmid=100, node="pve1", disks={"scsi0": disk}, power="started")
    assert [call.path.rpartition("/")[2] for call in plan.calls] == ["qemu", "resize", "start"]
    assert plan.calls[0].task == ("qmcreate", "100")


def test_a_container_is_made_of_a_system() -> None:
    key = "ssh-ed25519 AAAA admin"
    _seen, plan = look(
        server(),
        name="box",
        node="pve1",
        ostemplate="local:vztmpl/debian.tar.zst",
        password="secret",
        sshkeys=[key],
        features={"nesting": True},
        disks={"rootfs": {"storage": "lvm", "size": 4}, "mp0": {"storage": "lvm", "size": 1, "mp": "/srv"}},
        net={"net0": {"bridge": "vmbr0", "ip": "dhcp"}},
    )
    (create,) = plan.calls
    assert create.path == "/nodes/pve1/lxc"
    assert create.params == {
        "vmid": 100,
        "hostname": "box",
        "ostemplate": "local:vztmpl/debian.tar.zst",
        "password": "secret",
        "ssh-public-keys": key,
        "unprivileged": True,
        "features": "nesting=1",
        "mp0": "lvm:1,mp=/srv",
        "net0": "bridge=vmbr0,ip=dhcp,name=eth0",
        "rootfs": "lvm:4",
    }
    assert create.secret == {"password"}


def test_a_clone_is_foretold_with_what_follows_it() -> None:
    template = {**ROW, "vmid": 900, "id": "qemu/900", "name": "debian", "template": 1}
    source = {
        **CONFIG,
        "name": "debian",
        "template": 1,
        "scsi0": "lvm:base-900-disk-0,size=2G",
        "ide2": "lvm:vm-900-cloudinit,media=cdrom",
        "cipassword": "**********",
        "digest": "d",
    }
    reader = server(**{"/cluster/resources": [template], "/nodes/pve1/qemu/900/config": source})
    seen, plan = look(
        reader,
        name="new",
        clone="debian",
        cores=4,
        net={"net0": {"tag": 5}},
        disks={"scsi0": {"size": "4G", "ssd": True}},
        cipassword="x",
    )
    assert summaries(plan) == [
        "clone VM 900 to VM 100 'new'",
        "grow scsi0 of VM 100 to 4G",
        "configure VM 100: cores, net0, scsi0",
    ]
    assert plan.calls[2].params["net0"] == "virtio,bridge=vmbr0,tag=5"
    assert plan.calls[2].params["scsi0"] == "lvm:vm-100-disk-0,size=4G,ssd=1"
    assert seen.config is not None
    assert seen.config.to_come("ide2") == "lvm:vm-100-cloudinit,media=cdrom"
    assert any("has a password of cloud-init already" in text for text in plan.warnings)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"name": "web", "cores": 2}, "does not say where to make it"),
        ({"name": "web", "node": "pve9"}, "There is no node 'pve9' in this cluster; its nodes are pve1, pve2"),
        ({"name": "web", "node": "pve2"}, "Node pve2 is down"),
        ({"name": "web", "node": "pve1", "type": "lxc"}, "name ostemplate"),
        ({"name": "web", "clone": "none"}, "The source of the clone"),
        ({"name": "web", "node": "pve1", "wait_for": "ip"}, "needs the guest agent, and it is not enabled"),
        ({"name": "web", "node": "pve1", "unprivileged": True}, "unprivileged is for containers"),
    ],
)
def test_what_cannot_be_made(named: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        look(server(), **named)


# --- a guest that is there ---


def test_configuration_comes_before_the_start_and_after_the_stop() -> None:
    _seen, plan = look(server(CONFIG), name="web", cores=4, power="started")
    assert summaries(plan) == ["configure VM 100: cores", "start VM 100"]
    running = server(CONFIG, {"status": "running"})
    _seen, plan = look(running, name="web", cores=4, power="stopped")
    assert summaries(plan) == ["shutdown VM 100", "configure VM 100: cores"]
    _seen, plan = look(running, name="web", cores=4, power="stopped", force=True)
    assert summaries(plan) == ["stop VM 100", "configure VM 100: cores"]


def test_what_is_as_wanted_is_left_alone() -> None:
    reader = server(CONFIG, {"status": "running"})
    seen, plan = look(reader, vmid=100, name="web", cores=2, power="started")
    assert plan.calls == ()
    assert reader.asked == ["/cluster/resources", f"{VM}/status/current", f"{VM}/pending"]
    told = FEATURE.result(wanted(options(vmid=100)), seen)
    assert "ip" not in told


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"vmid": 100, "name": "other"}, "called 'web', not 'other'"),
        ({"vmid": 100, "type": "lxc"}, "a CT is wanted"),
        ({"vmid": 100, "state": "template"}, "add power=stopped"),
        ({"vmid": 100, "wait_for": "agent", "agent": False}, "it is not enabled"),
    ],
)
def test_a_guest_that_is_not_the_one(named: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        look(server(CONFIG, {"status": "running"}), **named)


def test_snapshots_keep_a_guest_from_becoming_a_template() -> None:
    with pytest.raises(Refused, match="has snapshots"):
        look(server({**CONFIG, "parent": "before"}), vmid=100, state="template")


def test_a_template_whose_disk_is_no_base_is_told() -> None:
    config = {**CONFIG, "template": "1", "scsi0": "lvm:vm-100-disk-0,size=2G"}
    _seen, plan = look(server(config), vmid=100, state="template")
    assert plan.calls == ()
    assert "qm template 100 --disk scsi0" in plan.warnings[0]


# --- its address ---

AGENT = f"{VM}/agent/network-get-interfaces"


def interface(mac: str, *addresses: str) -> dict[str, Any]:
    return {"name": "eth", "hardware-address": mac, "ip-addresses": [{"ip-address": one} for one in addresses]}


def test_the_best_address_comes_first_and_the_state_is_not_asked_for() -> None:
    told = [
        interface("00:00:00:00:00:00", "127.0.0.1", "::1"),
        interface("02:42:00:00:00:01", "172.17.0.1"),
        interface("bc:24:11:00:00:01", "fe80::1", "2001:db8::5", "192.0.2.5"),
    ]
    reader = server(CONFIG, {"status": "running"}, **{AGENT: {"result": told}})
    want = wanted(options(name="web", wait_for="ip"))
    seen = observe(want, reader, None)
    assert reader.asked == ["/cluster/resources", f"{VM}/pending", AGENT]
    assert decide(want, seen, ()).waiting is None
    result = FEATURE.result(want, seen)
    assert (result["ip"], result["addresses"]) == ("192.0.2.5", ["192.0.2.5", "2001:db8::5", "172.17.0.1"])


@pytest.mark.parametrize(
    ("answer", "wait_for", "waiting"),
    [
        (ProxmoxError("QEMU guest agent is not running", status=500), "agent", "the guest agent of VM 100 to answer"),
        ({"result": []}, "agent", None),
        ({"result": []}, "ip", "VM 100 to have an IP address"),
        ({"result": [interface("a", "169.254.1.1")]}, "ip", "VM 100 to have an IP address"),
    ],
)
def test_what_is_waited_for(answer: Any, wait_for: str, waiting: str | None) -> None:
    reader = server(CONFIG, {"status": "running"}, **{AGENT: answer})
    _seen, plan = look(reader, name="web", wait_for=wait_for)
    assert plan.waiting == waiting
    assert plan.pause == (5.0 if waiting else 0.0)
    assert reader.asked.count(AGENT) == 1


def test_an_address_that_comes_later_is_seen() -> None:
    reader = server(CONFIG, {"status": "running"}, **{AGENT: {"result": []}})
    want = wanted(options(name="web", wait_for="ip"))
    seen = observe(want, reader, None)
    reader.answers[AGENT] = {"result": [interface("a", "192.0.2.5")]}
    seen = observe(want, reader, seen)
    assert decide(want, seen, ()).waiting is None
    assert FEATURE.result(want, seen)["ip"] == "192.0.2.5"
    # Who is reached is not asked again.
    observe(want, reader, seen)
    assert reader.asked.count(AGENT) == 2


def test_addresses_that_are_not_liked_are_not_waited_for() -> None:
    told = {"result": [interface("a", "172.17.0.1")]}
    reader = server(CONFIG, {"status": "running"}, **{AGENT: told})
    _seen, plan = look(reader, name="web", wait_for="ip", refused_networks=["172.16.0.0/12"])
    assert plan.waiting == "VM 100 to have an IP address"


def test_an_agent_that_keeps_its_addresses_to_itself() -> None:
    refusal = {"result": {"error": {"desc": "Command guest-network-get-interfaces has been disabled"}}}
    reader = server(CONFIG, {"status": "running"}, **{AGENT: refusal})
    assert look(reader, name="web", wait_for="agent")[1].waiting is None
    with pytest.raises(Refused, match="has been disabled"):
        look(reader, name="web", wait_for="ip")


def test_nobody_asks_an_agent_while_there_is_something_to_do() -> None:
    reader = server(CONFIG, {"status": "running"}, **{AGENT: {"result": []}})
    _seen, plan = look(reader, name="web", wait_for="agent", cores=4)
    assert summaries(plan) == ["configure VM 100: cores"]
    assert AGENT not in reader.asked


def test_a_question_that_is_not_allowed_is_told() -> None:
    reader = server(CONFIG, {"status": "running"}, **{AGENT: ProxmoxError("Permission check failed", status=403)})
    with pytest.raises(ProxmoxError, match="Permission check failed"):
        look(reader, name="web", wait_for="agent")


# --- deleting ---

TEMPLATE = {**CONFIG, "template": "1", "scsi0": "nfs:100/base-100-disk-0.qcow2,size=2G"}
LINKED = [
    {"volid": "nfs:100/base-100-disk-0.qcow2"},
    {"volid": "nfs:100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2"},
]
CONTENT = "/nodes/pve1/storage/nfs/content"


@pytest.mark.parametrize(
    ("config", "status", "named", "says"),
    [
        (CONFIG, {}, {"vmid": 100, "name": "other"}, "is called 'web', not 'other'; it was not deleted"),
        (CONFIG, {}, {"vmid": 100, "type": "lxc"}, "a CT is wanted"),
        (CONFIG, {"status": "running"}, {"name": "web"}, "set force: true"),
        ({**CONFIG, "protection": "1"}, {}, {"name": "web", "force": True}, "protected against being deleted"),
        (TEMPLATE, {"template": 1}, {"name": "web", "force": True}, "set allow_template: true"),
        (
            TEMPLATE,
            {"template": 1},
            {"name": "web", "allow_template": True},
            "nfs:100/base-100-disk-0.qcow2/101/vm-101",
        ),
        (CONFIG, {"ha": {"managed": 1, "state": "stopped"}}, {"name": "web", "force": True}, "set purge: true"),
    ],
)
def test_what_is_not_deleted(config: dict[str, str], status: dict[str, Any], named: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        look(server(config, status, **{CONTENT: LINKED}), state="absent", **named)


@pytest.mark.parametrize(
    ("config", "status", "named", "calls"),
    [
        (CONFIG, {}, {"name": "web"}, [("DELETE", VM, {})]),
        (CONFIG, {}, {"vmid": 100, "node": "pve1", "purge": True}, [("DELETE", VM, {"purge": True})]),
        (
            CONFIG,
            {"status": "running"},
            {"name": "web", "force": True, "destroy_unreferenced_disks": True},
            [
                ("POST", f"{VM}/status/stop", {"overrule-shutdown": True}),
                ("DELETE", VM, {"destroy-unreferenced-disks": True}),
            ],
        ),
        (
            {**TEMPLATE, "scsi0": "nfs:100/base-100-disk-1.qcow2"},
            {"template": 1},
            {"name": "web", "allow_template": True},
            [("DELETE", VM, {})],
        ),
    ],
)
def test_what_deletes(
    config: dict[str, str], status: dict[str, Any], named: dict[str, Any], calls: list[tuple[str, str, dict[str, Any]]]
) -> None:
    _seen, plan = look(server(config, status, **{CONTENT: LINKED}), state="absent", **named)
    assert [(call.method, call.path, dict(call.params)) for call in plan.calls] == calls
    assert plan.after == {"guest": None}


def test_gone_is_gone_also_where_its_privileges_went_with_it() -> None:
    want = wanted(options(name="web", state="absent"))
    seen = observe(want, server(CONFIG), None)
    gone = server()
    gone.answers[f"{VM}/status/current"] = ProxmoxError("Permission check failed (/vms/100, VM.Audit)", status=403)
    # Somebody has made another guest of that name meanwhile: it is another guest.
    gone.answers["/cluster/resources"] = [{**ROW, "vmid": 105, "id": "qemu/105"}]
    done = (Call("DELETE", VM),)
    after = observe(want, gone, seen)
    plan = decide(want, after, done)
    assert (plan.calls, plan.before, plan.after) == ((), {"guest": None}, {"guest": None})
    assert FEATURE.result(want, after) == {"guest": None}


def test_a_guest_that_is_unseen_is_not_taken_for_gone() -> None:
    def taken_if_asked(**query: object) -> str:
        if query:
            raise _taken()
        return "101"

    reader = server()
    reader.answers["/cluster/nextid"] = taken_if_asked
    with pytest.raises(Refused, match="the credentials may not see it"):
        look(reader, vmid=100, state="absent")


def _taken() -> ProxmoxError:
    return ProxmoxError("VM 100 already exists", effect=Effect.STALE, status=400)


def test_a_deletion_that_is_under_way_is_waited_for() -> None:
    row = {**ROW, "lock": "destroyed"}
    reader = server({"lock": "destroyed"}, {"lock": "destroyed", "name": "VM 100"})
    reader.answers |= {
        "/cluster/resources": [row],
        "/nodes/pve1/tasks": [
            {"upid": "UPID:pve1:00000001:00000001:00000001:qmdestroy:100:root@pam:", "type": "qmdestroy"}
        ],
    }
    _seen, plan = look(reader, name="web", state="absent")
    assert plan.waiting is not None
    assert "qmdestroy" in plan.waiting

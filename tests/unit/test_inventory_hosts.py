"""Rows of the cluster's list as hosts: which, under what name, with what variables, in which groups, reached where."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.hosts import (
    Networks,
    address,
    agent_is_enabled,
    criteria,
    fact_variables,
    guest_groups,
    guest_name,
    guest_variables,
    host_name,
    interfaces,
    is_chosen,
    networks,
    node_groups,
    safe_name,
    unique_names,
    with_facts,
)

ROW: dict[str, Any] = {
    "id": "qemu/100",
    "vmid": 100,
    "type": "qemu",
    "node": "pve1",
    "name": "web01",
    "status": "running",
    "template": 0,
    "tags": "prod;web",
    "pool": "prod/front",
    "cpu": 0.25,
    "maxcpu": 4,
    "mem": 1024,
    "maxmem": 4096,
    "disk": 0,
    "maxdisk": 8192,
    "uptime": 60,
}
# What a fresh guest's row holds (recorded: everything that pvestatd tells is missing).
FRESH: dict[str, Any] = {"id": "qemu/105", "vmid": 105, "type": "qemu", "node": "pve2", "status": "unknown"}
CT: dict[str, Any] = {**ROW, "id": "lxc/101", "vmid": 101, "type": "lxc", "name": "dns"}


# include, whether ROW meets it
CHOICES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"tags": ["web"]}, True),
    ({"tags": "web"}, True),
    ({"tags": ["db", "prod"]}, True),
    ({"tags": ["we"]}, False),
    ({"tags": ["we?"]}, True),
    ({"pools": ["prod"]}, False),
    ({"pools": ["prod/*"]}, True),
    ({"nodes": ["pve[12]"], "status": "running"}, True),
    ({"nodes": ["pve[12]"], "status": "stopped"}, False),
    ({"types": ["lxc"]}, False),
    ({"names": ["WEB*"]}, False),
    ({"names": [r"~web\d+$"]}, True),
    ({"names": [r"~eb"]}, False),
    ({"vmids": [100]}, True),
    ({"vmids": ["20?"]}, False),
    ({"template": False}, True),
    ({"template": True}, False),
    ({"tags": []}, False),
]


@pytest.mark.parametrize(("wanted", "met"), CHOICES)
def test_include_wants_every_key(wanted: dict[str, Any], met: bool) -> None:
    assert is_chosen(ROW, criteria("include", wanted), ()) is met


@pytest.mark.parametrize(
    ("unwanted", "left"),
    [
        ({}, True),
        ({"tags": "db", "status": "stopped"}, True),
        ({"tags": "db", "status": "running"}, False),
        ({"names": "web*"}, False),
        ({"template": True}, True),
    ],
)
def test_exclude_needs_one_key(unwanted: dict[str, Any], left: bool) -> None:
    assert is_chosen(ROW, criteria("include", {"types": "qemu"}), criteria("exclude", unwanted)) is left


def test_a_fresh_guest_is_compared_by_what_is_known() -> None:
    assert is_chosen(FRESH, criteria("include", {"status": "unknown", "names": "VM 105", "template": False}), ())
    assert not is_chosen(FRESH, criteria("include", {"pools": "*"}), ())


@pytest.mark.parametrize(
    ("option", "word"),
    [({"tag": "web"}, "'tag' is unknown"), ({"tags": {"a": 1}}, "list of patterns"), ({"names": "~("}, "expression")],
)
def test_criteria_that_make_no_sense_are_refused(option: dict[str, Any], word: str) -> None:
    with pytest.raises(Refused, match=word):
        criteria("include", option)


@pytest.mark.parametrize(
    ("row", "name", "host"),
    [
        (ROW, "web01", "web01"),
        (FRESH, "VM 105", "VM-105"),
        ({**FRESH, "type": "lxc"}, "CT105", "CT105"),
        ({**ROW, "name": "web.example.com"}, "web.example.com", "web.example.com"),
        ({**ROW, "name": "{{ lookup('pipe', 'id') }}"}, "{{ lookup('pipe', 'id') }}", "lookup-pipe-id"),
        ({**ROW, "name": "a,b:c!d[1]"}, "a,b:c!d[1]", "a-b:c-d-1"),
    ],
)
def test_names(row: dict[str, Any], name: str, host: str) -> None:
    assert guest_name(row) == name
    assert host_name(name) == host


@pytest.mark.parametrize(
    ("names", "taken", "unique", "changed"),
    [
        ([("a", 1), ("b", 2)], (), ["a", "b"], {}),
        ([("a", 1), ("b", 2), ("a", 3)], (), ["a-1", "b", "a-3"], {"a": ["a-1", "a-3"]}),
        ([("pve1", 7)], ("pve1",), ["pve1-7"], {"pve1": ["pve1-7"]}),
        # A name made unique may be somebody's own name.
        ([("a", 1), ("a", 2), ("a-1", 9)], (), ["a-1", "a-2", "a-1-9"], {"a": ["a-1", "a-2"], "a-1": ["a-1-9"]}),
        # A name made unique may be taken.
        ([("a", 1), ("a", 2)], ("a-1",), ["a-1-1", "a-2"], {"a": ["a-1-1", "a-2"]}),
    ],
)
def test_no_two_names_are_alike(names: Any, taken: Any, unique: list[str], changed: dict[str, list[str]]) -> None:
    assert unique_names(names, taken) == (unique, changed)


@pytest.mark.parametrize(
    ("text", "safe"),
    [("pool_prod/front", "pool_prod_front"), ("tag_a b-c", "tag_ab_c"), ("1_qemu", "_1_qemu"), ("tag_ä", "tag__")],
)
def test_safe_names(text: str, safe: str) -> None:
    assert safe_name(text) == safe


def test_variables_of_a_row() -> None:
    assert guest_variables(ROW) == {
        "vmid": 100,
        "name": "web01",
        "node": "pve1",
        "type": "qemu",
        "vmtype": "qemu",
        "status": "running",
        "tags": ["prod", "web"],
        "tags_parsed": ["prod", "web"],
        "pool": "prod/front",
        "template": False,
        "lock": None,
        "ha_state": None,
        "uptime": 60,
        "cpu_usage": 0.25,
        "maxcpu": 4,
        "mem": 1024,
        "maxmem": 4096,
        "disk": 0,
        "maxdisk": 8192,
    }


def test_every_guest_has_the_same_variables() -> None:
    assert guest_variables(FRESH).keys() == guest_variables(ROW).keys()


def test_groups() -> None:
    def names(row: dict[str, Any], facts: dict[str, Any] | None = None) -> list[str]:
        return [name for name, _parent in guest_groups(row, facts or {})]

    assert names(ROW) == ["all_qemu", "all_running", "pve1_qemu", "pool_prod/front", "tag_prod", "tag_web"]
    assert ("pve1_qemu", "node_pve1") in guest_groups(ROW, {})
    assert names(FRESH) == ["all_qemu", "all_unknown", "pve2_qemu"]
    assert names({**ROW, "template": 1}) == ["all_templates", "node_pve1", "pool_prod/front", "tag_prod", "tag_web"]
    assert "all_paused" in names(ROW, {"status": {"status": "running", "qmpstatus": "paused"}})
    assert "all_stopped" in names(CT, {"status": {"status": "stopped"}})
    assert node_groups({"node": "pve1", "status": "offline"}) == [("nodes_offline", "nodes")]


# config option -> its variable
CONFIG: list[tuple[str, Any, str, Any]] = [
    ("cores", 2, "cores", 2),
    ("memory", "160", "memory", "160"),
    ("net0", "virtio=BC:24:11:2F:30:6B,bridge=vmbr0", "net0", {"virtio": "BC:24:11:2F:30:6B", "bridge": "vmbr0"}),
    ("scsi0", "local:100/a.qcow2,size=50M", "scsi0", {"disk_image": "local:100/a.qcow2", "size": "50M"}),
    ("scsihw", "virtio-scsi-single", "scsihw", "virtio-scsi-single"),
    ("ide2", "none,media=cdrom", "ide2", {"disk_image": "none", "media": "cdrom"}),
    ("rootfs", "local:subvol,size=8G", "rootfs", {"disk_image": "local:subvol", "size": "8G"}),
    ("agent", "1", "agent", "1"),
    ("agent", "enabled=1,fstrim_cloned_disks=1", "agent", {"enabled": "1", "fstrim_cloned_disks": "1"}),
    ("agent", "1,fstrim_cloned_disks=1", "agent", "1,fstrim_cloned_disks=1"),
    ("smbios1", "uuid=7d20,serial=YWI=", "smbios1", {"uuid": "7d20", "serial": "YWI="}),
    ("boot", "order=scsi0;net0", "boot", {"order": "scsi0;net0"}),
    ("description", "a=b,c=d", "description", "a=b,c=d"),
    ("amd-sev", "type=std", "amd_sev", {"type": "std"}),
    ("lxc", [["lxc.idmap", "u 0 1"]], "lxc", {"idmap": "u 0 1"}),
]


@pytest.mark.parametrize(("key", "value", "variable", "shown"), CONFIG)
def test_variables_of_a_config(key: str, value: Any, variable: str, shown: Any) -> None:
    assert fact_variables({"config": {key: value}}) == {variable: shown}


def test_a_config_does_not_take_the_place_of_what_the_row_tells() -> None:
    config = {"name": "web01", "tags": "prod;web", "lock": "backup", "template": 1, "cpu": "host"}
    assert fact_variables({"config": config}) == {"cpu": "host"}


def test_variables_of_the_other_facts() -> None:
    facts = {
        "status": {"status": "running", "qmpstatus": "paused"},
        "snapshots": [{"name": "s1"}, {"name": "s2", "parent": "s1"}, {"name": "current", "parent": "s2"}],
        "agent": AGENT,
        "interfaces": LXC,
        "error": "snapshots: refused",
    }
    found = fact_variables(facts)
    assert found["status"] == "running"
    assert found["qmpstatus"] == "paused"
    assert found["snapshots"] == ["s1", "s2"]
    assert found["agent_interfaces"][2] == {
        "name": "eth0",
        "mac-address": "bc:24:11:00:00:01",
        "ip-addresses": ["fe80::1/64", "192.168.7.7/24", "2001:db8::7/64"],
    }
    assert found["lxc_interfaces"][1] == {"name": "eth0", "hwaddr": "aa", "inet": "10.5.5.5/24", "inet6": "fe80::2/64"}
    assert found["fact_gathering_failed"] is True
    assert found["fact_gathering_error"] == "snapshots: refused"


def test_facts_know_a_fresh_guest_better() -> None:
    facts = {"config": {"name": "new", "template": 1}, "status": {"status": "stopped", "uptime": 0}}
    row = with_facts(FRESH, facts)
    assert guest_variables(row)["name"] == "new"
    assert guest_variables(row)["template"] is True
    assert guest_variables(with_facts(CT, {"config": {"hostname": "other"}}))["name"] == "dns"


AGENT: list[dict[str, Any]] = [
    {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
    {
        "name": "docker0",
        "hardware-address": "02:42:00:00:00:01",
        "ip-addresses": [{"ip-address": "172.17.0.1", "prefix": 16}],
    },
    {
        "name": "eth0",
        "hardware-address": "bc:24:11:00:00:01",
        "ip-addresses": [
            {"ip-address": "fe80::1", "prefix": 64, "ip-address-type": "ipv6"},
            {"ip-address": "192.168.7.7", "prefix": 24, "ip-address-type": "ipv4"},
            {"ip-address": "2001:db8::7", "prefix": 64, "ip-address-type": "ipv6"},
        ],
    },
    {"name": "eth1"},
]
LXC: list[dict[str, Any]] = [
    {"name": "lo", "hwaddr": "00", "inet": "127.0.0.1/8", "inet6": "::1/128"},
    {"name": "eth0", "hwaddr": "aa", "inet": "10.5.5.5/24", "inet6": "fe80::2/64"},
]
VM_FACTS: dict[str, Any] = {
    "config": {
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
        "ipconfig1": "ip=10.1.0.9/24",
        "ipconfig0": "ip=dhcp,ip6=2001:db8::5/64,gw6=2001:db8::1",
        "ipconfig10": "ip=10.10.0.9/24",
    },
    "agent": AGENT,
}
CT_FACTS: dict[str, Any] = {
    "config": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto", "net1": "name=eth1,ip=10.6.0.6/24"},
    "interfaces": LXC,
}

# row, facts, sources, preferred, refused -> ansible_host
ADDRESSES: list[tuple[dict[str, Any], dict[str, Any], list[str], list[str], list[str], str | None]] = [
    (ROW, VM_FACTS, [], [], [], None),
    (ROW, {}, ["agent", "cloud_init"], [], [], None),
    (ROW, VM_FACTS, ["agent"], [], [], "192.168.7.7"),
    (ROW, {"agent": AGENT}, ["agent"], [], [], "172.17.0.1"),
    (ROW, {"agent": AGENT}, ["agent"], [], ["172.17.0.0/16"], "192.168.7.7"),
    (ROW, VM_FACTS, ["agent"], ["::/0"], [], "2001:db8::7"),
    (ROW, VM_FACTS, ["agent"], ["10.0.0.0/8", "172.16.0.0/12"], [], "172.17.0.1"),
    (ROW, VM_FACTS, ["agent"], [], ["192.168.0.0/16", "172.16.0.0/12"], "2001:db8::7"),
    (ROW, {"agent": AGENT[:1]}, ["agent", "name"], [], [], "web01"),
    (ROW, VM_FACTS, ["cloud_init", "agent"], [], [], "10.1.0.9"),
    (ROW, VM_FACTS, ["cloud_init"], ["2001:db8::/32"], [], "2001:db8::5"),
    (ROW, VM_FACTS, ["lxc_net", "lxc_interfaces"], [], [], None),
    (CT, CT_FACTS, ["lxc_net"], [], [], "10.6.0.6"),
    (CT, CT_FACTS, ["lxc_interfaces"], [], [], "10.5.5.5"),
    (CT, CT_FACTS, ["lxc_interfaces", "lxc_net"], [], ["10.5.0.0/16"], "10.6.0.6"),
    (CT, CT_FACTS, ["agent", "cloud_init"], [], [], None),
    (FRESH, {}, ["name"], [], [], None),
]


@pytest.mark.parametrize(("row", "facts", "sources", "preferred", "refused", "chosen"), ADDRESSES)
def test_address(row: Any, facts: Any, sources: Any, preferred: Any, refused: Any, chosen: str | None) -> None:
    liked = Networks(networks("preferred_networks", preferred), networks("refused_networks", refused))
    assert address(row, facts, sources, liked) == chosen


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(Refused, match=r"refused_networks: '10\.0/8'"):
        networks("refused_networks", ["10.0/8"])


def test_interfaces_of_containers_old_and_new_are_the_same() -> None:
    new = [{"name": "eth0", "hardware-address": "aa", "ip-addresses": [{"ip-address": "10.5.5.5", "prefix": "24"}]}]
    old = [{"name": "eth0", "hwaddr": "aa", "inet": "10.5.5.5/24"}]
    assert interfaces(new) == interfaces(old)


@pytest.mark.parametrize(
    ("agent", "enabled"),
    [
        (None, False),
        ("0", False),
        ("1", True),
        (1, True),
        ("enabled=1", True),
        ("enabled=0,fstrim_cloned_disks=1", False),
        ("fstrim_cloned_disks=1", False),
        ("1,type=virtio", True),
        ("type=isa,enabled=on", True),
    ],
)
def test_agent_is_enabled(agent: Any, enabled: bool) -> None:
    assert agent_is_enabled({} if agent is None else {"agent": agent}) is enabled

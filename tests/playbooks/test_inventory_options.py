"""Every option of the inventory through the real ansible-inventory: hosts, requests, and what is told of what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.simulator import Cluster, Fault, serve
from tests.simulator.engine.model import Behaviour
from tests.simulator.populate import populate

from .conftest import ROOT, Run, Site

PLUGIN = "keel.proxmox.proxmox"
MUST_PARSE = {"ANSIBLE_INVENTORY_UNPARSED_FAILED": "1"}
TRAP = "{{ lookup('ansible.builtin.pipe', 'touch TRAPPED') }}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster with a little of everything that an inventory can meet."""
    cluster = Cluster()
    cluster.add_pool("prod")
    cluster.add_pool("prod/db")
    cluster.add_vm(
        101,
        "web01",
        node="pve1",
        running=True,
        config={"agent": "1", "tags": "prod;web", "ipconfig0": "ip=10.0.0.101/24,gw=10.0.0.1", "description": TRAP},
        behaviour=Behaviour(addresses=("192.168.7.101/24",), boot_seconds=0.0),
    )
    cluster.add_vm(
        102,
        "web02",
        node="pve2",
        running=True,
        config={"agent": "1", "tags": "web"},
        behaviour=Behaviour(agent=False),
    )
    cluster.add_vm(103, "db01", node="pve2", config={"agent": "1", "tags": "db"})
    cluster.add_vm(104, "noagent", node="pve1", running=True)
    cluster.add_vm(105, "twin", node="pve1", config={"tags": "twin"})
    cluster.add_vm(106, "twin", node="pve2", config={"tags": "twin"})
    cluster.add_vm(107, "fresh", node="pve1", settled=False)
    cluster.add_ct(201, "dns", node="pve1", running=True, config={"net0": "name=eth0,bridge=vmbr0,ip=10.0.0.201/24"})
    cluster.add_template(9000, name="debian-13")
    cluster.access.pools["prod"].guests.add(101)
    cluster.access.pools["prod/db"].guests.add(103)
    cluster.access.changed()
    # Its clock stands still, so that what is fresh stays fresh.
    server = serve(cluster, real_time=False)
    try:
        yield Site(cluster, server, tmp_path_factory.mktemp("site"))
    finally:
        server.stop()
    assert not cluster.unmodelled, f"the simulator does not model {cluster.unmodelled}"


class Inventory:
    """An inventory file, and what came of it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.path = site.directory / "test.proxmox.yml"
        self.requests: list[str] = []
        self.run = Run(0, "", "")

    def __call__(self, *arguments: str, environment: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        """Return the output of --list; run and requests are kept."""
        self.path.write_text(yaml.safe_dump({"plugin": PLUGIN, **options}), encoding="utf-8")
        before = len(self.site.cluster.log)
        self.run = self.site.run(
            ["ansible-inventory", "-i", str(self.path), "--list", *arguments], **(MUST_PARSE | (environment or {}))
        )
        self.requests = [entry.path for entry in self.site.cluster.log[before:]]
        return json.loads(self.run.stdout) if self.run.code == 0 else {}

    @property
    def told(self) -> str:
        """Both outputs' warnings and errors, in one line."""
        return " ".join(self.run.stderr.split())


@pytest.fixture
def inventory(site: Site) -> Inventory:
    return Inventory(site)


def names(listed: dict[str, Any]) -> set[str]:
    return set(listed["_meta"]["hostvars"])


def plain(value: Any) -> Any:
    """The value without Ansible's marks for texts that are no templates."""
    if isinstance(value, dict):
        return (
            plain(value["__ansible_unsafe"]) if "__ansible_unsafe" in value else {k: plain(v) for k, v in value.items()}
        )
    return [plain(item) for item in value] if isinstance(value, list) else value


def variables(listed: dict[str, Any], host: str) -> dict[str, Any]:
    found: dict[str, Any] = plain(listed["_meta"]["hostvars"][host])
    return found


def members(listed: dict[str, Any], group: str) -> set[str]:
    """The hosts of a group and of those below it."""
    found = listed.get(group, {})
    return set(found.get("hosts", [])).union(*(members(listed, child) for child in found.get("children", [])))


def test_hosts_groups_and_variables(inventory: Inventory) -> None:
    listed = inventory()
    assert inventory.requests == ["/cluster/resources"]
    assert names(listed) == {
        *("web01", "web02", "db01", "noagent", "twin-105", "twin-106", "VM-107", "dns", "debian-13"),
    }
    assert members(listed, "proxmox_all_lxc") == {"dns"}
    assert members(listed, "proxmox_all_running") == {"web01", "web02", "noagent", "dns"}
    assert members(listed, "proxmox_all_templates") == {"debian-13"}
    assert "debian-13" not in members(listed, "proxmox_all_qemu") | members(listed, "proxmox_all_stopped")
    assert members(listed, "proxmox_pve1_lxc") == {"dns"}
    assert members(listed, "proxmox_node_pve2") == {"web02", "db01", "twin-106"}
    assert members(listed, "proxmox_tag_web") == {"web01", "web02"}
    assert members(listed, "proxmox_pool_prod_db") == {"db01"}
    web01 = variables(listed, "web01")
    assert web01["proxmox_tags"] == ["prod", "web"]
    assert (web01["proxmox_pool"], web01["proxmox_node"], web01["proxmox_type"]) == ("prod", "pve1", "qemu")
    assert web01["proxmox_maxmem"] > 0
    assert "ansible_host" not in web01
    assert "twin-105; twin-106" in inventory.told
    assert "VM-107" in inventory.told


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"include": {"tags": ["web"]}}, {"web01", "web02"}),
        ({"include": {"tags": ["web"], "nodes": "pve1"}}, {"web01"}),
        ({"include": {"pools": ["prod*"]}}, {"web01", "db01"}),
        ({"include": {"types": "lxc"}}, {"dns"}),
        ({"include": {"names": ["~web|db"]}, "exclude": {"status": "stopped"}}, {"web01", "web02"}),
        ({"filters": ["'web' in proxmox_tags", "proxmox_pool is none"]}, {"web02"}),
        ({"filters": ["proxmox_vmid > 200 and not proxmox_template"]}, {"dns"}),
    ],
)
def test_filters_cost_no_request(inventory: Inventory, options: dict[str, Any], left: set[str]) -> None:
    assert names(inventory(**options)) == left
    assert inventory.requests == ["/cluster/resources"]


def test_a_filter_that_fails_leaves_out_and_tells(inventory: Inventory) -> None:
    assert names(inventory(filters=["proxmox_vmid == 101 or nonsense"])) == {"web01"}
    assert "'proxmox_vmid == 101 or nonsense' fails for 8 guests" in inventory.told
    assert inventory(filters=["nonsense"], strict=True) == {}
    assert "The filter 'nonsense' fails" in inventory.told


def test_facts_are_asked_of_those_who_are_left(inventory: Inventory) -> None:
    listed = inventory(include={"names": ["web01", "db01", "noagent"]}, facts=["config", "status", "agent"])
    assert sorted(inventory.requests) == [
        "/cluster/resources",
        *(f"/nodes/pve1/qemu/101/{what}" for what in ("agent/network-get-interfaces", "config", "status/current")),
        *(f"/nodes/pve1/qemu/104/{what}" for what in ("config", "status/current")),
        *(f"/nodes/pve2/qemu/103/{what}" for what in ("config", "status/current")),
    ]
    web01 = variables(listed, "web01")
    assert web01["proxmox_description"] == TRAP
    assert web01["proxmox_ipconfig0"] == {"ip": "10.0.0.101/24", "gw": "10.0.0.1"}
    assert web01["proxmox_net0"]["bridge"] == "vmbr0"
    assert web01["proxmox_qmpstatus"] == "running"
    assert any("192.168.7.101/24" in one["ip-addresses"] for one in web01["proxmox_agent_interfaces"])


def test_filters_can_use_facts_afterwards(inventory: Inventory) -> None:
    listed = inventory(
        include={"names": ["web*", "db01"]}, facts=["config"], facts_filters=["proxmox_ipconfig0 is defined"]
    )
    assert names(listed) == {"web01"}


@pytest.mark.parametrize(
    ("sources", "options", "addresses"),
    [
        (["agent", "name"], {}, {"web01": "192.168.7.101", "web02": "web02", "dns": "dns"}),
        (["cloud_init", "lxc_net"], {}, {"web01": "10.0.0.101", "web02": None, "dns": "10.0.0.201"}),
        (["lxc_interfaces"], {}, {"web01": None, "dns": "10.0.0.201"}),
        (["agent", "cloud_init"], {"refused_networks": ["192.168.0.0/16"]}, {"web01": "10.0.0.101"}),
    ],
)
def test_ansible_host(
    inventory: Inventory, sources: list[str], options: dict[str, Any], addresses: dict[str, str | None]
) -> None:
    listed = inventory(include={"names": ["web*", "dns"]}, address_sources=sources, **options)
    assert {host: variables(listed, host).get("ansible_host") for host in addresses} == addresses


def test_an_agent_is_not_asked_where_an_earlier_source_knows(inventory: Inventory) -> None:
    inventory(include={"names": "web01"}, address_sources=["cloud_init", "agent"])
    assert inventory.requests == ["/cluster/resources", "/nodes/pve1/qemu/101/config"]


def test_a_dead_agent_is_told(inventory: Inventory) -> None:
    listed = inventory(include={"names": "web*"}, facts=["agent"])
    assert "agents of 1 guest." in inventory.told
    assert "web02 (102)" in inventory.told
    assert "proxmox_fact_gathering_failed" not in variables(listed, "web02")


def test_a_node_that_is_down_costs_its_facts(inventory: Inventory) -> None:
    inventory.site.cluster.node_down("pve2")
    try:
        listed = inventory(facts=["config"])
    finally:
        inventory.site.cluster.node_up("pve2")
    assert inventory.run.code == 0
    assert "Node pve2 cannot be reached; 3 guests there without facts" in inventory.told
    assert not [path for path in inventory.requests if "pve2" in path]
    assert "proxmox_fact_gathering_failed" in variables(listed, "web02")
    assert variables(listed, "web01")["proxmox_scsi0"]


def test_nodes_as_hosts_are_in_the_same_request(inventory: Inventory) -> None:
    listed = inventory(want_nodes=True, include={"names": "web01"})
    assert inventory.requests == ["/cluster/resources"]
    assert names(listed) == {"pve1", "pve2", "pve3", "web01"}
    assert members(listed, "proxmox_nodes") == members(listed, "proxmox_nodes_online") == {"pve1", "pve2", "pve3"}
    assert variables(listed, "pve1")["proxmox_type"] == "node"


def test_nodes_alone_with_their_addresses(inventory: Inventory) -> None:
    listed = inventory(exclude_nodes=False, exclude_vms=True, want_proxmox_nodes_ansible_host=True)
    assert names(listed) == {"pve1", "pve2", "pve3"}
    assert inventory.requests == ["/cluster/resources", "/cluster/status"]
    assert variables(listed, "pve1")["ansible_host"]


def test_host_names_by_template(inventory: Inventory) -> None:
    listed = inventory(
        "-e",
        "domain=example.com",
        include={"names": ["web*", "dns", "twin"]},
        want_nodes=True,
        hostname="{{ name }}.{{ domain }}",
        lxc_hostname="{{ proxmox_vmid }}-{{ node }}",
    )
    nodes = {f"pve{number}.example.com" for number in (1, 2, 3)}
    twins = {"twin.example.com-105", "twin.example.com-106"}
    assert names(listed) == {"web01.example.com", "web02.example.com", "201-pve1"} | nodes | twins


def test_constructed_options_and_prefixes(inventory: Inventory) -> None:
    listed = inventory(
        include={"names": "web*"},
        facts_prefix="pve_",
        group_prefix="p_",
        compose={"ansible_port": "22000 + pve_vmid", "where": "pve_node | upper"},
        groups={"first": "where == 'PVE1'"},
        keyed_groups=[{"key": "pve_tags", "prefix": "t"}],
    )
    assert int(variables(listed, "web01")["ansible_port"]) == 22101
    assert members(listed, "first") == {"web01"}
    assert members(listed, "t_web") == {"web01", "web02"}
    assert members(listed, "p_tag_prod") == {"web01"}
    assert not [name for name in variables(listed, "web01") if name.startswith("proxmox_")]


def test_texts_of_the_server_are_never_templates(site: Site, inventory: Inventory) -> None:
    site.cluster.add_vm(301, TRAP, node="pve3", config={"description": TRAP})
    site.cluster.guests[301].config["tags"] = TRAP
    try:
        listed = inventory(
            include={"nodes": "pve3"},
            facts=["config"],
            hostname="{{ name }}",
            compose={"copied": "proxmox_description", "joined": "proxmox_tags | join(' ')"},
            keyed_groups=[{"key": "proxmox_name"}],
        )
        (host,) = names(listed)
        assert "{" not in host
        ask = "msg={{ [proxmox_name, proxmox_description, copied, joined, inventory_hostname, group_names] }}"
        run = site.run(["ansible", "-i", str(inventory.path), "all", "-c", "local", "-m", "debug", "-a", ask])
    finally:
        del site.cluster.guests[301]
    assert run.code == 0, run.stderr
    assert variables(listed, host)["copied"] == TRAP
    assert not list(site.directory.rglob("TRAPPED"))


def test_cache(site: Site, inventory: Inventory) -> None:
    secret = site.server.token_secret
    options = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(site.directory / "kept"),
        "facts": ["config"],
        "include": {"names": "web*"},
    }
    first = inventory(**options)
    assert len(inventory.requests) == 3
    assert inventory(**options) == first
    assert inventory.requests == []
    # Credentials that no longer work are not noticed, for nobody is asked.
    assert inventory(environment={"PROXMOX_TOKEN_SECRET": "wrong"}, **options) == first
    kept = "".join(path.read_text(encoding="utf-8") + path.name for path in (site.directory / "kept").iterdir())
    assert "web01" in kept
    assert secret not in kept
    before = len(site.cluster.log)
    book = site.directory / "nothing.yml"
    book.write_text(yaml.safe_dump([{"hosts": "all"}]), encoding="utf-8")
    site.run(["ansible-playbook", "-i", str(inventory.path), "--list-hosts", "--flush-cache", str(book)])
    assert len(site.cluster.log) - before == 3
    assert names(inventory(**{**options, "include": {"names": "db*"}})) == {"db01"}
    assert len(inventory.requests) == 2


def test_a_choice_that_leaves_nobody_is_told(inventory: Inventory) -> None:
    """A slip of the pen would leave the hosts out without a word."""
    assert names(inventory(include={"status": "runing", "names": ["web01", "web*"]})) == set()
    assert "is chosen by include and the other options." in inventory.told
    assert "None has status: runing (did you mean running?)." in inventory.told
    assert names(inventory(include={"tags": ["web", "nosuch"]}))
    assert "nosuch" not in inventory.told


def cache(site: Site, name: str) -> dict[str, Any]:
    return {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(site.directory / name)}


def test_a_cache_of_another_cluster_is_no_answer(site: Site, inventory: Inventory) -> None:
    """What decides it is where a template leads, not its text."""
    options = {"api_host": "{{ lookup('env', 'MY_HOST') }}", **cache(site, "clusters")}
    first = inventory(environment={"MY_HOST": "127.0.0.1"}, **options)
    assert inventory(environment={"MY_HOST": "127.0.0.1"}, **options) == first
    assert inventory.requests == []
    assert inventory(environment={"MY_HOST": "localhost"}, **options) == first
    assert inventory.requests == ["/cluster/resources"]


def test_a_cache_without_the_facts_of_the_chosen_is_no_answer(site: Site, inventory: Inventory) -> None:
    """Extra variables can have a filter choose others."""
    options = {"use_extra_vars": True, "filters": ["tier in proxmox_tags"], "facts": ["config"], **cache(site, "tiers")}
    web = inventory("-e", "tier=web", **options)
    assert inventory("-e", "tier=web", **options) == web
    assert inventory.requests == []
    other = inventory("-e", "tier=db", **options)
    assert names(other)
    assert names(other).isdisjoint(names(web))
    assert all("proxmox_digest" in variables(other, name) for name in names(other))


def test_what_was_missing_when_it_was_cached_is_told_again(site: Site, inventory: Inventory) -> None:
    options = {"facts": ["config"], "include": {"names": "web*"}, **cache(site, "missing")}
    site.cluster.add_fault(Fault(path=r"/qemu/101/config$", kind=500, times=9))
    try:
        inventory(**options)
        assert "Facts are missing of 1 guest" in inventory.told
    finally:
        site.cluster.faults.clear()
    inventory(**options)
    assert inventory.requests == []
    assert "Facts are missing of 1 guest" in inventory.told
    assert "--flush-cache asks again" in inventory.told


def test_what_will_be_there_the_next_time_is_not_missing_in_the_cache(site: Site, inventory: Inventory) -> None:
    """A node that could not be reached for a moment; one that the cluster knows to be down stays missing, and is told."""
    options = {"facts": ["config"], "include": {"names": "web*"}, **cache(site, "passing")}
    whole = inventory(**options)
    site.cluster.add_fault(Fault(path=r"^/nodes/pve2/", kind=595, times=9))
    before = len(site.cluster.log)
    try:
        book = site.directory / "nothing.yml"
        book.write_text(yaml.safe_dump([{"hosts": "all"}]), encoding="utf-8")
        run = site.run(["ansible-playbook", "-i", str(inventory.path), "--list-hosts", "--flush-cache", str(book)])
        assert "Node pve2 cannot be reached" in " ".join(run.stderr.split())
        assert len(site.cluster.log) > before
    finally:
        site.cluster.faults.clear()
    assert inventory(**options) == whole
    assert len(inventory.requests) == 3
    assert inventory(**options) == whole
    assert inventory.requests == []


def test_a_node_that_is_down_does_not_cost_the_cache(site: Site, inventory: Inventory) -> None:
    options = {"facts": ["config"], "include": {"names": "web*"}, **cache(site, "down")}
    site.cluster.node_down("pve2", "timeout")
    try:
        first = inventory(**options)
        assert inventory(**options) == first
        assert inventory.requests == []
        assert "Node pve2 cannot be reached" in inventory.told
        assert "--flush-cache asks again" in inventory.told
    finally:
        site.cluster.node_up("pve2")


def test_no_guest_is_the_controller(site: Site, inventory: Inventory) -> None:
    """Whoever may name a guest would have plays for localhost run on it."""
    site.cluster.add_vm(399, "localhost", node="pve1", config={"ipconfig0": "ip=192.0.2.66/24"})
    try:
        listed = inventory(address_sources=["cloud_init"], include={"vmids": [399]})
        assert names(listed) == {"localhost-399"}
        assert "localhost-399" in inventory.told
        assert names(inventory(hostname="'127.0.0.1'", include={"vmids": [399]})) == {"127.0.0.1-399"}
        listed = inventory(address_sources=["name"], include={"vmids": [399]})
        assert "ansible_host" not in variables(listed, "localhost-399")
    finally:
        del site.cluster.guests[399]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("all", {}),
        ("ungrouped", {}),
        ("nodes", {"group_prefix": "", "want_nodes": True}),
        ("production", {"groups": {"production": "proxmox_vmid > 1"}}),
    ],
)
def test_no_guest_is_a_group(site: Site, inventory: Inventory, name: str, options: dict[str, Any]) -> None:
    """Ansible takes such a name for the group's, and would put that into the groups of the guest."""
    site.cluster.add_vm(399, name, node="pve1", config={"tags": "mine"})
    try:
        listed = inventory(**options)
    finally:
        del site.cluster.guests[399]
    assert inventory.run.code == 0, inventory.told
    assert name not in names(listed)
    assert members(listed, f"{options.get('group_prefix', 'proxmox_')}tag_mine") == {f"{name}-399"}
    assert f"'{name}' cannot be the name of a guest" in inventory.told
    assert "same name" not in inventory.told


@pytest.mark.parametrize("name", ["localhost", "all"])
def test_no_node_is_the_controller_or_a_group(inventory: Inventory, name: str) -> None:
    assert names(inventory(want_nodes=True, exclude_vms=True, hostname=name)) == {"pve1-node", "pve2-node", "pve3-node"}
    assert "The name of node pve1 is that of the controller or a group; the host is pve1-node" in inventory.told


def test_a_guest_called_as_a_keyed_group_takes_nobody_with_it(site: Site, inventory: Inventory) -> None:
    site.cluster.add_vm(399, "prod", node="pve1", config={"tags": "mine;prod"})
    try:
        listed = inventory(
            compose={"mark": "proxmox_vmid"},
            groups={"late": "proxmox_vmid == 399"},
            keyed_groups=[{"key": "proxmox_tags", "prefix": "", "separator": ""}],
        )
    finally:
        del site.cluster.guests[399]
    assert members(listed, "prod") == {"web01", "prod"}
    assert members(listed, "proxmox_tag_mine") == members(listed, "late") == {"prod"}
    assert {name: variables(listed, name)["mark"] for name in ("web01", "prod")} == {"web01": 101, "prod": 399}


def test_a_damaged_cache_is_read_again(site: Site, inventory: Inventory) -> None:
    options = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(site.directory / "damaged")}
    first = inventory(**options)
    (kept,) = (site.directory / "damaged").iterdir()
    kept.write_text("{", encoding="utf-8")
    assert inventory(**options) == first
    assert inventory.requests == ["/cluster/resources"]


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        ({"api_host": "127.0.0.1:1"}, {}, "cannot be reached"),
        ({}, {"PROXMOX_HOST": ""}, "No api_host"),
        ({}, {"PROXMOX_TOKEN_SECRET": "wrong"}, "401"),
        ({}, {"PROXMOX_CA_PATH": ""}, "is not trusted"),
        ({"api_token_secret": "{{ nowhere }}"}, {}, "The template in api_token_secret fails"),
        ({"include": {"tag": "web"}}, {}, "include: 'tag' is unknown"),
        ({"refused_networks": ["10.0/8"]}, {}, "refused_networks: '10.0/8' is not a network"),
        ({"facts": ["everything"]}, {}, "config, status, snapshots, interfaces, agent"),
        ({"facts_concurrency": 0}, {}, "facts_concurrency cannot be 0"),
        ({"want_nodes": True, "exclude_nodes": True}, {}, "contradict"),
        ({"hostname": "{{ nowhere }}"}, {}, "The template for the name of"),
    ],
)
def test_what_is_wrong_is_one_clear_message(
    inventory: Inventory, options: dict[str, Any], environment: dict[str, str], words: str
) -> None:
    inventory(environment=environment, **options)
    assert inventory.run.code != 0
    assert words in inventory.told
    assert "Traceback" not in inventory.told
    assert inventory.site.server.token_secret not in inventory.told


def test_credentials_by_template_and_the_next_host(site: Site, inventory: Inventory) -> None:
    listed = inventory(
        "-e",
        f"pve=127.0.0.1:{site.server.port}",
        environment={"PROXMOX_HOST": "", "PROXMOX_TOKEN_SECRET": "", "KEPT": site.server.token_secret},
        api_host=["127.0.0.1:1", "https://{{ pve }}/"],
        api_token_secret="{{ lookup('ansible.builtin.env', 'KEPT') }}",
    )
    assert "web01" in names(listed), inventory.told


def test_a_file_of_the_other_collection(site: Site, inventory: Inventory) -> None:
    """The options and variables of community.proxmox.proxmox that mean the same."""
    environment = site.environment()
    listed = inventory(
        environment=dict.fromkeys((name for name in environment if name != "PROXMOX_CA_PATH"), ""),
        url=f"https://127.0.0.1:{site.server.port}",
        user=environment["PROXMOX_USER"],
        token_id=environment["PROXMOX_TOKEN_ID"],
        token_secret=environment["PROXMOX_TOKEN_SECRET"],
        want_facts=True,
        exclude_nodes=True,
        want_proxmox_nodes_ansible_host=False,
        qemu_extended_statuses=True,
        facts_concurrency=2,
        filters=["proxmox_vmtype == 'qemu'", "'web' in proxmox_tags_parsed | default([])", "proxmox_net0 is defined"],
        keyed_groups=[{"key": "proxmox_tags_parsed", "separator": "", "prefix": "group"}],
        compose={"ansible_host": "(proxmox_ipconfig0 | default({})).ip | default('none') | split('/') | first"},
    )
    assert names(listed) == {"web01", "web02"}, inventory.told
    assert members(listed, "groupweb") == {"web01", "web02"}
    assert variables(listed, "web01")["ansible_host"] == "10.0.0.101"
    assert variables(listed, "web01")["proxmox_snapshots"] == []
    assert members(listed, "proxmox_pve1_qemu") == {"web01"}


def examples() -> list[dict[str, Any]]:
    """The documents of the examples in the plugin's documentation."""
    source = (ROOT / "plugins" / "inventory" / "proxmox.py").read_text(encoding="utf-8")
    text = source.partition('EXAMPLES = r"""')[2].partition('"""')[0]
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("number", range(len(examples())))
def test_examples_run(inventory: Inventory, number: int, tmp_path: Path) -> None:
    options = {key: value for key, value in examples()[number].items() if not key.startswith("api_")}
    if "cache" in options:
        options["cache_connection"] = str(tmp_path)
    del options["plugin"]
    listed = inventory(**options)
    assert names(listed), inventory.told


def test_ten_thousand_guests_are_one_request(tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster = Cluster()
    populate(cluster, 10_000)
    server = serve(cluster, real_time=False)
    try:
        inventory = Inventory(Site(cluster, server, tmp_path_factory.mktemp("large")))
        listed = inventory()
    finally:
        server.stop()
    assert inventory.requests == ["/cluster/resources"]
    assert len(names(listed)) == 10_001
    assert len(members(listed, "proxmox_all_qemu")) + len(members(listed, "proxmox_all_lxc")) == 10_000


@pytest.mark.parametrize(
    "locally", [{"connection": "local"}, {"delegate_to": "localhost"}], ids=lambda how: next(iter(how))
)
def test_variables_are_hints_for_modules(inventory: Inventory, locally: dict[str, str]) -> None:
    """As docs/inventory.md has it: where the guest is need not be searched, for a container neither."""
    inventory()
    hints = {"vmid": "{{ proxmox_vmid }}", "node": "{{ proxmox_node }}", "type": "{{ proxmox_type }}"}
    play = {
        "name": "Guests",
        "hosts": "web01,noagent,dns",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "module_defaults": {"keel.proxmox.proxmox_vm_power": hints},
        "tasks": [{"name": "start", "keel.proxmox.proxmox_vm_power": {"state": "started"}, **locally}],
    }
    book = inventory.site.directory / "guests.yml"
    book.write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
    before = len(inventory.site.cluster.log)
    run = inventory.site.run(["ansible-playbook", "-i", str(inventory.path), str(book)])
    assert run.code == 0, run.stdout + run.stderr
    assert {result.host: result.outcome for result in run.results} == dict.fromkeys(("web01", "noagent", "dns"), "ok")
    assert sorted(entry.path for entry in inventory.site.cluster.log[before:]) == [
        "/cluster/resources",
        *("/nodes/pve1/lxc/201/status/current", "/nodes/pve1/qemu/101/status/current"),
        "/nodes/pve1/qemu/104/status/current",
    ]


def test_constructed_groups_see_facts_and_what_was_composed(inventory: Inventory) -> None:
    listed = inventory(
        facts=["config"],
        compose={"cidr": "proxmox_ipconfig0.ip | default('none')"},
        groups={"has_agent": "proxmox_agent | default('0') == '1'"},
        keyed_groups=[
            {"key": "cidr", "prefix": "net"},
            {"key": "proxmox_tags", "prefix": "t", "parent_group": "tagged"},
        ],
    )
    assert members(listed, "has_agent") == {"web01", "web02", "db01"}
    assert members(listed, "net_10_0_0_101_24") == {"web01"}
    assert "dns" in members(listed, "net_none")
    assert members(listed, "tagged") == {"web01", "web02", "db01", "twin-105", "twin-106"}
    assert variables(listed, "web01")["cidr"] == "10.0.0.101/24"
    assert variables(listed, "dns")["cidr"] == "none"


def test_variables_of_an_earlier_source_stay_or_are_merged(inventory: Inventory) -> None:
    """A host that another inventory knows, too: its other variables stay, and dictionaries are merged where Ansible is told to."""
    first = inventory.site.directory / "first.yml"
    known = {"web01": {"mine": 1, "proxmox_node": "elsewhere", "proxmox_ipconfig0": {"ip": "old", "mine": "too"}}}
    first.write_text(yaml.safe_dump({"all": {"hosts": known}}), encoding="utf-8")
    for behaviour, more in (("replace", set()), ("merge", {"mine"})):
        inventory(facts=["config"])
        run = inventory.site.run(
            ["ansible-inventory", "-i", str(first), "-i", str(inventory.path), "--list"],
            ANSIBLE_HASH_BEHAVIOUR=behaviour,
        )
        found = variables(json.loads(run.stdout), "web01")
        assert (found["mine"], found["proxmox_node"]) == (1, "pve1")
        assert found["proxmox_ipconfig0"].keys() == {"ip", "gw"} | more

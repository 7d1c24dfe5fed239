# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: proxmox
short_description: Guests and nodes of a Proxmox VE cluster
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Makes every VM and container that the credentials may see (C(VM.Audit)) a host, and with O(want_nodes) every node.
  - Needs one request for the whole cluster, however many guests there are, as long as no facts are asked for.
  - The file must be called C(proxmox.yml), C(proxmox.yaml), or something that ends in either, as C(lab.proxmox.yml).
  - Texts of the server (names, tags, descriptions and everything else) are data; Ansible never takes them for templates.
extends_documentation_fragment:
  - keel.proxmox.inventory_auth
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
notes:
  - Needs the privileges C(VM.Audit) on C(/vms/VMID) of each guest that shall be a host, C(Pool.Audit) on C(/pool/POOL) for groups
    by pool, C(Sys.Audit) on C(/nodes/NODE) for the measurements of nodes, C(Sys.Audit) on C(/) with
    O(want_proxmox_nodes_ansible_host), and C(VM.GuestAgent.Audit) on C(/vms/VMID) for what the agent tells (before Proxmox VE 9
    C(VM.Monitor)). Guests that the credentials may not see are left out, and nothing tells of them.
  - Every guest has the variables C(vmid), C(name), C(node), C(type) (V(qemu) or V(lxc)), C(status), C(tags) (a list), C(pool),
    C(template), C(lock), C(ha_state), C(uptime) (seconds), C(cpu_usage) (V(1) for all CPUs busy), C(maxcpu), and in bytes C(mem),
    C(maxmem), C(disk) and C(maxdisk), each with O(facts_prefix) before it. What is not known is V(null). C(vmtype) and
    C(tags_parsed) are other names for C(type) and C(tags).
  - Name, status and measurements are up to ten seconds old, and a guest that is fresher than that has the status V(unknown) and
    no name yet. It is called as the server calls guests without a name, and a warning tells of it, unless V(config) is among
    O(facts). Everything else is current.
  - "The groups are, each with O(group_prefix) before it: C(all_qemu) and C(all_lxc), C(all_STATUS) as in C(all_running),
    C(node_NODE) with the groups C(NODE_qemu) and C(NODE_lxc) in it, C(pool_POOL), C(tag_TAG), and C(all_templates). Templates are
    in none of the groups by type and status. Group names are in lower case; blanks are dropped and other characters that
    cannot be in a group's name become underscores."
  - C(nodes) holds the nodes, with the groups C(nodes_online) and C(nodes_offline) in it.
  - C(all_qemu), C(all_lxc), C(all_running), C(all_stopped) and C(all_templates) are there even when they are empty.
  - A guest or node whose facts cannot be read costs its facts and a warning. Such guests have C(fact_gathering_failed) and
    C(fact_gathering_error).
  - A cached run makes no request. The cache holds what the server answered and no credentials. It is read again when the file's
    options change in a way that other answers are needed. Answers without facts that the next run is likely to get are not kept.
options:
  plugin:
    description: Must be V(keel.proxmox.proxmox).
    type: str
    required: true
    choices: [keel.proxmox.proxmox]
  include:
    description:
      - Which guests become hosts, by what the one request for the whole cluster tells.
      - The keys are V(names), V(nodes), V(pools), V(status), V(tags), V(template), V(types) and V(vmids), each with a pattern or
        a list of them. A guest must match each key that is given, by any of its patterns.
      - A pattern is as in the shell, with V(*), V(?) and V([...]), or after a V(~) a regular expression that is matched from the
        beginning. Case matters.
      - Left out, all guests do. The key V(nodes) applies to nodes as hosts, too.
    type: dict
    default: {}
  exclude:
    description:
      - Which guests do not become hosts. The keys are those of O(include); one match by any of them is enough.
      - Left out, none is kept out.
    type: dict
    default: {}
  filters:
    description:
      - Jinja expressions that must all be true for a guest to become a host. They see the variables of the guest, without facts.
      - A guest for which an expression fails is left out with a warning; with O(strict) the inventory fails.
      - Slower than O(include) and O(exclude), which are applied first.
      - With O(want_facts=true) they are the same as O(facts_filters).
    type: list
    elements: str
    default: []
  facts_filters:
    description:
      - As O(filters), but looked at after the facts were fetched, so that they can use them.
    type: list
    elements: str
    default: []
  facts:
    description:
      - What else to ask for each guest that O(include), O(exclude) and O(filters) have left. Each costs a request for a guest.
      - V(config) gives a variable for each option of the guest's configuration; property strings such as C(net0) become
        dictionaries, the volume of a disk is C(disk_image) in it.
      - V(status) gives C(status) and C(qmpstatus) as they are this moment, and current measurements.
      - V(snapshots) gives C(snapshots), the names of the snapshots.
      - V(interfaces) gives C(lxc_interfaces) of running containers, with their addresses.
      - V(agent) gives C(agent_interfaces) of running VMs, with their addresses. Only VMs whose configuration says that they have
        an agent are asked, so V(config) is fetched, too.
      - Left out, nothing is, beside what O(address_sources) needs.
    type: list
    elements: str
    choices: [config, status, snapshots, interfaces, agent]
    default: []
  facts_concurrency:
    description:
      - How many guests are asked for their facts at the same time, agents not counted.
      - The status of many guests of a node is asked for in one request, so these cost about one request a guest and subset less.
    type: int
    default: 8
  agent_seconds:
    description:
      - For how many seconds agents are still asked once all other facts are known. An agent that does not answer costs three
        seconds, and the node the use of one of its few workers for so long. Therefore no more than two agents of a node are asked
        at the same time.
      - A warning tells which agents did not answer and how many were not asked any more.
    type: float
    default: 60
  address_sources:
    description:
      - Where C(ansible_host) comes from. The first source that knows an address is used; loopback and link-local addresses never.
      - V(agent) asks the VM's agent, if no earlier source knows an address. Interfaces that are the guest's network cards for
        Proxmox VE go before those that the guest made up itself.
      - V(cloud_init) takes static addresses of C(ipconfig0) and so on from the VM's configuration.
      - V(lxc_interfaces) takes the addresses that a running container has.
      - V(lxc_net) takes static addresses of C(net0) and so on from the container's configuration.
      - V(name) takes the name of the guest, for the resolver to find; not C(localhost), though.
      - In one source IPv4 goes before IPv6, unless O(preferred_networks) says otherwise.
      - Left out, C(ansible_host) is not set, and Ansible connects to the host's name.
    type: list
    elements: str
    choices: [agent, cloud_init, lxc_interfaces, lxc_net, name]
    default: []
  preferred_networks:
    description: Networks whose addresses a source should rather give, the best first, as V(10.0.0.0/8) or V(::/0).
    type: list
    elements: str
    default: []
  refused_networks:
    description: Networks whose addresses are never taken for C(ansible_host), such as those of container engines in the guests.
    type: list
    elements: str
    default: []
  hostname:
    description:
      - Template for the names of hosts, as V({{ name }}.example.com). It sees what the server tells of the guest or node under the
        server's own names (C(name), C(vmid), C(node), C(type), C(status), C(pool), C(tags) and so on), the variables
        of the guest, and extra variables.
      - Left out, or where it gives nothing, the name of the guest or node is used.
      - Characters that cannot be in the name of a host become dashes. Guests that would have the same name, or the name of a
        node, all get their VMID behind it, as in C(web-101) and C(web-102), and a warning tells of it. So does a guest that would
        be called V(localhost), V(127.0.0.1) or V(::1), or as a group. Such a node has C(-node) behind its own name.
    type: str
  qemu_hostname:
    description: As O(hostname), for VMs, and used for them instead of it.
    type: str
  lxc_hostname:
    description: As O(hostname), for containers, and used for them instead of it.
    type: str
  group_prefix:
    description: What the names of the groups begin with.
    type: str
    default: proxmox_
  facts_prefix:
    description: What the names of the variables begin with.
    type: str
    default: proxmox_
  want_nodes:
    description:
      - Whether nodes become hosts. They have the variables C(node), C(name), C(type) (V(node)), C(status), C(ha_state) and the
        measurements of guests.
    type: bool
    default: false
  exclude_nodes:
    description:
      - The opposite of O(want_nodes), as C(community.proxmox.proxmox) has it. Left out, O(want_nodes) decides.
    type: bool
  exclude_vms:
    description: Whether guests are left out, so that nodes are the only hosts.
    type: bool
    default: false
  want_proxmox_nodes_ansible_host:
    description:
      - Whether C(ansible_host) of nodes is set to the address that the cluster uses for them. Costs one request.
    type: bool
    default: false
  want_facts:
    description:
      - The same as O(facts=[config, status, snapshots, interfaces, agent]), with O(filters) looked at after the facts were fetched,
        as C(community.proxmox.proxmox) has it.
    type: bool
    default: false
  want_post_filter_facts:
    description:
      - The same as O(facts=[config, status, snapshots, interfaces, agent]), as C(community.proxmox.proxmox) has it.
    type: bool
    default: false
  qemu_extended_statuses:
    description:
      - Has no effect. Paused VMs are always in C(all_paused) and so on. Known because C(community.proxmox.proxmox) has it.
    type: bool
    default: false
"""

EXAMPLES = r"""
# Every guest of the cluster, in one request. The token comes from the environment: PROXMOX_TOKEN_ID, PROXMOX_TOKEN_SECRET.
# lab.proxmox.yml
plugin: keel.proxmox.proxmox
api_host: pve1.example.com
---
# Running production guests without templates, reached by the address that they really have.
plugin: keel.proxmox.proxmox
api_host: [pve1.example.com, pve2.example.com]
api_token_id: ansible@pve!inventory
api_token_secret: "{{ lookup('ansible.builtin.env', 'INVENTORY_SECRET') }}"
include:
  pools: [prod, "prod/*"]
  status: running
exclude:
  template: true
  tags: [unmanaged]
address_sources: [cloud_init, agent, lxc_net, lxc_interfaces, name]
preferred_networks: [10.0.0.0/8]
refused_networks: [172.17.0.0/16]
---
# Names, groups and variables of one's own, kept in a cache for an hour.
plugin: keel.proxmox.proxmox
api_host: pve1.example.com
facts: [config]
filters:
  - proxmox_vmid < 9000
hostname: "{{ name }}.example.com"
compose:
  ansible_port: 22022
  bridge: proxmox_net0.bridge
groups:
  big: proxmox_maxmem is not none and proxmox_maxmem > 64 * 1024 ** 3
keyed_groups:
  - key: proxmox_ostype | default('none')
    prefix: os
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /tmp/inventory-cache
---
# The nodes, and nothing else.
plugin: keel.proxmox.proxmox
api_host: pve1.example.com
want_nodes: true
exclude_vms: true
want_proxmox_nodes_ansible_host: true
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ansible.template
from ansible.constants import LOCALHOST
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var

from ..module_utils import facts as fetching
from ..module_utils import hosts
from ..module_utils.client import CONNECTIONS, Client, connect
from ..module_utils.errors import ProxmoxError
from ..module_utils.redact import harmless, printable, redact
from ..plugin_utils.memo import MemoTemplar

TEMPLATED = (
    "api_host",
    "api_user",
    "api_password",
    "api_otp",
    "api_token_id",
    "api_token_secret",
    "api_fingerprint",
)
SECRET = ("api_password", "api_otp", "api_token_secret")
UNTEMPLATED = ("api_port", "ca_path", "validate_certs", "api_timeout")
# What decides which answers are needed; no secret is among them.
CACHE_DEPENDS_ON = (
    *("api_host", "api_port", "api_user", "api_token_id"),
    *("include", "exclude", "filters", "facts", "address_sources", "preferred_networks", "refused_networks", "strict"),
    *("want_nodes", "exclude_nodes", "exclude_vms", "want_facts", "want_post_filter_facts"),
    *("want_proxmox_nodes_ansible_host", "facts_prefix"),
)
CACHE_FORMAT = 2
ALWAYS_THERE = ("all_qemu", "all_lxc", "all_running", "all_stopped", "all_templates")
SHOWN = 5
NO_TEXT = frozenset({int, float, bool, type(None)})

# What evaluating an expression may raise; before Ansible 2.19, errors of filters and operators come as they are.
TEMPLATE_ERRORS = (AnsibleError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

# Ansible 2.19 trusts no text that is not marked as a template; before that, texts that are none must be marked.
_TRUST_IS_MARKED = hasattr(ansible.template, "trust_as_template")


def untrusted(value: Any) -> Any:
    """Return the value so that Ansible does not take texts in it for templates."""
    return value if _TRUST_IS_MARKED else wrap_var(value)


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Guests and nodes of a cluster as hosts."""

    NAME = "keel.proxmox.proxmox"

    def verify_file(self, path: str) -> bool:
        """Tell whether the file may be ours, by its name."""
        return super().verify_file(path) and path.endswith(("proxmox.yml", "proxmox.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory; whatever the server or the file has against it is told in one AnsibleParserError."""
        super().parse(inventory, loader, path)
        self.templar = MemoTemplar(self.templar)
        self.templar.available_variables = self._vars
        self._secrets: list[str] = []
        self._refuse_unknown(self._read_config_data(path))
        try:
            self._read_options()
            answers = self._answers(path, cache)
            self._populate(answers)
        except ProxmoxError as error:
            # Ansible would show the cause, too, as it is.
            raise AnsibleParserError(self._presentable(error.message)) from None

    # Options

    def _refuse_unknown(self, config: Mapping[str, Any]) -> None:
        """A misspelt option would be ignored by Ansible."""
        known: set[str] = set()
        for name, definition in self.option_definitions.items():
            known |= {name, *definition.get("aliases", ())}
        unknown = sorted(str(name) for name in config if name not in known)
        if unknown:
            raise AnsibleParserError(
                f"Unknown options: {', '.join(unknown)}. See 'ansible-doc -t inventory {self.NAME}'."
            )

    def _read_options(self) -> None:
        want = self.get_option
        self._include = hosts.criteria("include", want("include"))
        self._exclude = hosts.criteria("exclude", want("exclude"))
        self._sources: list[str] = list(want("address_sources"))
        self._liked = hosts.Networks(
            hosts.networks("preferred_networks", want("preferred_networks")),
            hosts.networks("refused_networks", want("refused_networks")),
        )
        for option in ("facts_concurrency", "agent_seconds"):
            if want(option) < (1 if option == "facts_concurrency" else 0):
                raise AnsibleParserError(f"{option} cannot be {want(option)}.")
        everything = want("want_facts") or want("want_post_filter_facts")
        self._facts = set(fetching.SUBSETS) if everything else set(want("facts"))
        self._subsets = self._facts.union(*(hosts.SOURCES[source] for source in self._sources))
        if "agent" in self._subsets:
            self._subsets.add("config")
        self._filters = [] if want("want_facts") else list(want("filters"))
        self._facts_filters = (list(want("filters")) if want("want_facts") else []) + list(want("facts_filters"))
        exclude_nodes = want("exclude_nodes")
        if want("want_nodes") and exclude_nodes:
            raise AnsibleParserError("want_nodes and exclude_nodes contradict each other.")
        self._want_nodes = want("want_nodes") or exclude_nodes is False
        self._strict = want("strict")
        self._facts_prefix, self._group_prefix = want("facts_prefix"), want("group_prefix")
        self._constructs = bool(want("compose") or want("groups") or want("keyed_groups"))
        self._groups: dict[str, str] = {}
        self._variables: dict[str, str] = {}
        self._accepted: set[str] = set()

    def _client(self) -> Client:
        options = {name: self.get_option(name) for name in UNTEMPLATED} | {
            name: self._setting(name) for name in TEMPLATED
        }
        self._secrets += [str(options[name]) for name in SECRET if options[name]]
        listed = options["api_host"]
        texts = listed if isinstance(listed, (list, tuple)) else str(listed or "").split(",")
        options["api_host"] = [_without_scheme(str(text)) for text in texts]
        return connect(options, connections=self.get_option("facts_concurrency") + CONNECTIONS)

    def _setting(self, name: str) -> Any:
        """Return an option, evaluated where it is a template of those that may be one."""
        value, origin = self.get_option_and_origin(name)
        # Only what stands in the file: a secret from the environment is never a template, whatever it looks like.
        if name in TEMPLATED and origin == "Direct" and self.templar.is_template(value):
            try:
                return self.templar.template(value)
            except TEMPLATE_ERRORS as error:
                raise AnsibleParserError(f"The template in {name} fails: {error}") from error
        return value

    # What the server answers

    def _answers(self, path: str, cache: bool) -> dict[str, Any]:
        """Return what the server answered, from the cache where that holds what these options need."""
        if not self.get_option("cache"):
            return self._ask()
        key = self.get_cache_key(path)
        needed = [CACHE_FORMAT, *(self._setting(option) for option in CACHE_DEPENDS_ON)]
        needs = hashlib.sha256(json.dumps(needed, sort_keys=True, default=str).encode()).hexdigest()
        if cache:
            try:
                answers = self._cache[key]
            except (KeyError, AnsibleError):
                answers = None  # not there, expired, or damaged, which the cache plugin tells
            if isinstance(answers, Mapping) and answers.get("needs") == needs and self._are_enough(answers):
                for text in answers["warnings"]:
                    self._warn(f"{text} So it was when this was put into the cache; --flush-cache asks again.")
                return dict(answers)
        answers = {**self._ask(), "needs": needs}
        # What the next run is likely to get shall not be missing as long as the cache lasts; what no run would get, of a node
        # that the cluster knows to be down, an agent that is silent or a privilege that lacks, shall not cost everybody the cache.
        self._cache[key] = answers if answers.pop("whole") else {}
        return answers

    def _are_enough(self, answers: Mapping[str, Any]) -> bool:
        """Tell whether all who are chosen were asked for their facts; extra variables in filters may choose others."""
        if not self._filters or not self._subsets:
            return True
        return all(str(row["vmid"]) in answers["facts"] for row in self._chosen(answers["guests"]))

    def _ask(self) -> dict[str, Any]:
        client = self._client()
        try:
            # All types in one answer also tell which nodes are down, which saves asking them in vain.
            query = {} if self._want_nodes or self._subsets else {"type": "vm"}
            resources = client.get("/cluster/resources", **query)
            guests = [row for row in resources if row.get("type") in hosts.KINDS]
            nodes = [row for row in resources if row.get("type") == "node"]
            addresses = {}
            if self._want_nodes and self.get_option("want_proxmox_nodes_ansible_host"):
                members = client.get("/cluster/status")
                addresses = {row["name"]: row["ip"] for row in members if row.get("type") == "node" and row.get("ip")}
            answers = {
                "guests": guests,
                "nodes": nodes,
                "addresses": addresses,
                "facts": {},
                "warnings": [],
                "whole": True,
            }
            if self._subsets:
                gathered = self._gather(client, self._chosen(guests), guests, nodes)
                warnings = list(self._missing(gathered, guests))
                answers.update(facts=gathered.facts, warnings=warnings, whole=not gathered.passing)
        finally:
            client.close()
        for text in answers["warnings"]:
            self._warn(text)
        return answers

    def _gather(
        self, client: Client, rows: Sequence[hosts.Row], guests: Sequence[hosts.Row], nodes: Sequence[hosts.Row]
    ) -> fetching.Gathered:
        return fetching.gather(
            client,
            rows,
            self._subsets,
            guests=guests,
            ask_agent=self._agent_is_needed,
            concurrency=self.get_option("facts_concurrency"),
            agent_seconds=self.get_option("agent_seconds"),
            down=[row["node"] for row in nodes if row.get("status") == "offline"],
        )

    def _missing(self, gathered: fetching.Gathered, guests: Sequence[hosts.Row]) -> Iterator[str]:
        """Yield what to tell of facts that are missing."""
        names = {int(row["vmid"]): f"{hosts.guest_name(row)} ({row['vmid']})" for row in guests}
        for node, count in sorted(gathered.skipped.items()):
            yield f"Node {node} cannot be reached; {_guests(count)} there without facts."
        if gathered.failed:
            reasons = [f"{names[vmid]}: {reason}" for vmid, reason in sorted(gathered.failed.items())]
            yield f"Facts are missing of {_guests(len(reasons))}. {_some(reasons)}"
        if gathered.silent:
            reasons = [f"{names[vmid]}: {reason}" for vmid, reason in sorted(gathered.silent.items())]
            yield f"No addresses from the agents of {_guests(len(reasons))}. {_some(reasons)}"
        if gathered.unasked:
            yield (
                f"Agents of {_guests(len(gathered.unasked))} not asked for addresses, for agent_seconds "
                f"({self.get_option('agent_seconds'):g}) had passed: {_some([names[one] for one in gathered.unasked])}"
            )

    def _agent_is_needed(self, row: hosts.Row, facts: hosts.Facts) -> bool:
        """Tell whether to ask a VM's agent, knowing the VM's other facts."""
        if not hosts.agent_is_enabled(facts.get("config") or {}):
            return False
        if "agent" in self._facts:
            return True
        before = self._sources[: self._sources.index("agent")]
        return hosts.address(row, facts, before, self._liked) is None

    # What becomes of it

    def _chosen(self, guests: Sequence[hosts.Row]) -> list[hosts.Row]:
        """Return the guests that include, exclude and filters leave."""
        if self.get_option("exclude_vms"):
            return []
        rows = [row for row in guests if hosts.is_chosen(row, self._include, self._exclude)]
        if not self._filters:
            return rows
        return self._filtered(self._filters, [(row, self._prefixed(hosts.guest_variables(row))) for row in rows])

    def _filtered(
        self, filters: Sequence[str], candidates: Iterable[tuple[hosts.Row, dict[str, Any]]]
    ) -> list[hosts.Row]:
        """Return the rows whose variables make all expressions true."""
        left = []
        failed: dict[str, list[str]] = {}
        for row, variables in candidates:
            for expression in filters:
                try:
                    if not self._compose(expression, variables):
                        break
                except TEMPLATE_ERRORS as error:
                    name = hosts.guest_name(row)
                    if self._strict:
                        raise AnsibleParserError(f"The filter '{expression}' fails for {name}: {error}") from error
                    failed.setdefault(expression, []).append(f"{name}: {error}")
                    break
            else:
                left.append(row)
        for expression, reasons in failed.items():
            self._warn(f"The filter '{expression}' fails for {_guests(len(reasons))}, left out. {_some(reasons, 1)}")
        return left

    def _populate(self, answers: Mapping[str, Any]) -> None:
        facts: Mapping[str, Any] = answers["facts"]
        rows = self._chosen(answers["guests"])
        if self._include and answers["guests"] and not rows:
            unmet = hosts.unmet(answers["guests"], self._include)
            why = f" None has {_some(unmet)}" if unmet else ""
            self._warn(f"None of {_guests(len(answers['guests']))} is chosen by include and the other options.{why}")
        known = [(row, facts.get(str(row["vmid"])) or {}) for row in rows]
        known = [(hosts.with_facts(row, its) if its else row, its) for row, its in known]
        variables = [self._prefixed({**hosts.guest_variables(row), **hosts.fact_variables(its)}) for row, its in known]
        if self._facts_filters:
            pairs = zip((row for row, _its in known), variables, strict=True)
            kept = {id(row) for row in self._filtered(self._facts_filters, pairs)}
            both = [(one, vars_) for one, vars_ in zip(known, variables, strict=True) if id(one[0]) in kept]
            known, variables = [one for one, _vars in both], [vars_ for _one, vars_ in both]

        for group in (*ALWAYS_THERE, *(["nodes"] if self._want_nodes else [])):
            self._group(group)
        only = [[one for one in given if one.key == "nodes"] for given in (self._include, self._exclude)]
        nodes = [row for row in answers["nodes"] if self._want_nodes and hosts.is_chosen(row, *only)]
        groups_of_nodes = [self._made(hosts.node_groups(row)) for row in nodes]
        groups = [self._made(hosts.guest_groups(row, its)) for row, its in known]
        # Plays for the controller would run on a host of such a name, and Ansible takes the name of a group for the group's: what
        # is said of the host would be true for all in it.
        taken = {*LOCALHOST, *self.inventory.groups, *map(self._sanitize_group_name, self.get_option("groups") or {})}
        added = []
        for row, its_groups in zip(nodes, groups_of_nodes, strict=True):
            vars_ = self._prefixed(hosts.node_variables(row))
            name = self._host_name({**row, "name": row["node"]}, vars_, row["node"])
            if name in taken:
                name = f"{row['node']}-node"
                self._warn(f"The name of node {row['node']} is that of the controller or a group; the host is {name}.")
            added.append(self._add_host(name, vars_, answers["addresses"].get(row["node"]), its_groups))

        wished = [
            (self._host_name(row, vars_, hosts.guest_name(row)), int(row["vmid"]))
            for (row, _its), vars_ in zip(known, variables, strict=True)
        ]
        names, changed = hosts.unique_names(wished, taken.union(host.name for host in added))
        for name, instead in changed.items():
            why = (
                f"'{name}' cannot be the name of a guest, for the controller or a group has it"
                if name in taken
                else f"Several hosts would be called '{name}'"
            )
            self._warn(f"{why}; they are {_some(instead, 20)}")
        nameless = [name for name, (row, _its) in zip(names, known, strict=True) if not row.get("name")]
        if nameless:
            self._warn(f"{_guests(len(nameless))} so fresh that the cluster tells no name yet: {_some(nameless)}")
        for name, (row, its), vars_, its_groups in zip(names, known, variables, groups, strict=True):
            address = hosts.address(row, its, self._sources, self._liked) if self._sources else None
            added.append(self._add_host(name, vars_, None if address in LOCALHOST else address, its_groups))
        if self._constructs:
            self._construct(added)

    def _add_host(self, name: str, variables: Mapping[str, Any], address: str | None, groups: Iterable[str]) -> Any:
        """Return the new host."""
        self.inventory.add_host(name)
        # The host's own method: the inventory's would look through every text for a trust that none of ours has.
        host = self.inventory.get_host(name)
        if self._accepted.issuperset(variables) and host.vars.keys().isdisjoint(variables):
            host.vars.update(variables)
        else:
            # What Ansible has to say about a name it says once; values that another source has given are merged as always.
            for key, value in variables.items():
                host.set_variable(key, value)
            self._accepted.update(variables)
        if address is not None:
            host.set_variable("ansible_host", untrusted(address))
        for group in groups:
            self.inventory.add_child(group, name)
        return host

    def _construct(self, added: Sequence[Any]) -> None:
        """Apply compose, groups and keyed_groups.

        Which groups keyed_groups makes is not known before. A host may be called as one of them, so they come last of all.
        """
        compose, groups, keyed_groups = (self.get_option(option) for option in ("compose", "groups", "keyed_groups"))
        settings: dict[str, Any] = {"strict": self._strict, "fetch_hostvars": False}
        for host in added:
            self._set_composite_vars(compose, host.get_vars(), host.name, strict=self._strict)
        variables = [host.get_vars() for host in added]
        for host, vars_ in zip(added, variables, strict=True):
            self._add_host_to_composed_groups(groups, vars_, host.name, **settings)
        for host, vars_ in zip(added, variables, strict=True):
            self._add_host_to_keyed_groups(keyed_groups, vars_, host.name, **settings)

    def _host_name(self, row: hosts.Row, variables: Mapping[str, Any], name: str) -> str:
        template = self.get_option(f"{row['type']}_hostname") if row["type"] in hosts.KINDS else None
        template = template or self.get_option("hostname")
        if template:
            self.templar.available_variables = {**untrusted({**row, "name": name}), **variables, **self._vars}
            try:
                name = str(self.templar.template(template) or "").strip() or name
            except TEMPLATE_ERRORS as error:
                raise AnsibleParserError(f"The template for the name of {name} fails: {error}") from error
        return hosts.host_name(name) or hosts.host_name(row["id"])

    def _prefixed(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables under the names that users see, as data and no templates."""
        names = self._variables
        for key in variables:
            if key not in names:
                names[key] = hosts.safe_name(self._facts_prefix + key)
        return {
            names[key]: value if type(value) in NO_TEXT else untrusted(harmless(value))
            for key, value in variables.items()
        }

    def _made(self, groups: Iterable[tuple[str, str | None]]) -> list[str]:
        return [self._group(group, parent) for group, parent in groups]

    def _group(self, group: str, parent: str | None = None) -> str:
        """Return the group's name in the inventory, where it is made the first time that it is asked for."""
        name = self._groups.get(group)
        if name is None:
            name = self.inventory.add_group(hosts.safe_name(self._group_prefix + group.lower()))
            self._groups[group] = name
            if parent is not None:
                self.inventory.add_child(self._group(parent), name)
        return name

    def _presentable(self, text: str) -> str:
        return printable(redact(text, self._secrets))

    def _warn(self, text: str) -> None:
        self.display.warning(self._presentable(text))


def _without_scheme(text: str) -> str:
    """Return host and port of what may be a URL."""
    return text.strip().removeprefix("https://").removeprefix("http://").partition("/")[0]


def _guests(count: int) -> str:
    return "1 guest" if count == 1 else f"{count} guests"


def _some(texts: Sequence[str], most: int = SHOWN) -> str:
    rest = len(texts) - most
    return "; ".join(texts[:most]) + (f"; and {rest} more." if rest > 0 else ".")

# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the parameters of endpoints mean that have no module of their own: tables, held to the server's schema by a test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import cache

from .wire import words

# Names of parameters whose value is a list in which order means nothing (formats that end in -list).
LISTS = frozenset(
    {
        *("bridge_ports", "bridge_vids", "contact", "content", "content-dirs", "delete", "dow", "exclude", "exitnodes"),
        *(
            "group_classes",
            "groups",
            "isis-ifaces",
            "mailto",
            "monhost",
            "nodes",
            "ovs_bonds",
            "ovs_ports",
            "peers",
            "privs",
        ),
        *("resources", "roles", "rt-import", "slaves", "tokens", "user_classes", "users", "vmid", "vms"),
    }
)

# Names of parameters that are property strings.
PROPERTIES = frozenset(
    {
        *(
            "acme",
            "bwlimit",
            "crs",
            "exit-action",
            "fleecing",
            "ha",
            "location",
            "log_ratelimit",
            "migration",
            "next-id",
            "notify",
        ),
        *("performance", "prune-backups", "replication", "sync-defaults-options", "tag-style", "tfa", "u2f"),
        *("user-tag-access", "wakeonlan", "webauthn"),
    }
)

# Parameters that a server wants with every change of some object, though they stay as they are.
ALWAYS = frozenset(
    {"cidr", "interfaces", "map", "port", "protocol", "schedule", "search", "server", "timezone", "type"}
)

# Path -> what a parameter means that the server does not show.
DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "/access/domains/{realm}": {
        "autocreate": False,
        "capath": "/etc/ssl/certs",
        "case-sensitive": True,
        "check-connection": False,
        "group_classes": "groupOfNames, group, univentionGroup, ipausergroup",
        "groups-autocreate": False,
        "groups-overwrite": False,
        "mode": "ldap",
        "query-userinfo": True,
        "scopes": "email profile",
        "user_classes": "inetorgperson, posixaccount, person, user",
        "verify": False,
    },
    "/access/users/{userid}": {"enable": True},
    "/access/users/{userid}/token/{tokenid}": {"privsep": True},
    "/cluster/acme/plugins/{id}": {"validation-delay": 30},
    "/cluster/backup/{id}": {
        "all": False,
        "bwlimit": 0,
        "compress": "0",
        "enabled": True,
        "ionice": 7,
        "lockwait": 180,
        "mailnotification": "always",
        "mode": "snapshot",
        "notification-mode": "auto",
        "pigz": 0,
        "prune-backups": "keep-all=1",
        "remove": True,
        "repeat-missed": False,
        "stdexcludes": True,
        "stopwait": 10,
        "zstd": 1,
    },
    "/cluster/firewall/options": {"ebtables": True, "enable": 0},
    "/cluster/ha/groups/{group}": {"nofailback": False, "restricted": False},
    "/cluster/ha/resources/{sid}": {
        "auto-rebalance": True,
        "failback": True,
        "max_relocate": 1,
        "max_restart": 1,
        "state": "started",
    },
    "/cluster/ha/rules/{rule}": {"strict": False},
    "/cluster/jobs/realm-sync/{id}": {"enable-new": True, "enabled": True, "remove-vanished": "none"},
    "/cluster/mapping/pci/{id}": {"live-migration-capable": False, "mdev": False},
    "/cluster/metrics/server/{id}": {
        "influxdbproto": "udp",
        "max-body-size": 25000000,
        "mtu": 1500,
        "otel-compression": "gzip",
        "otel-max-body-size": 10000000,
        "otel-path": "/v1/metrics",
        "otel-protocol": "https",
        "otel-timeout": 5,
        "otel-verify-ssl": True,
        "timeout": 1,
        "verify-certificate": True,
    },
    "/cluster/notifications/endpoints/gotify/{name}": {"disable": False},
    "/cluster/notifications/endpoints/sendmail/{name}": {"disable": False},
    "/cluster/notifications/endpoints/smtp/{name}": {"disable": False, "mode": "tls"},
    "/cluster/notifications/endpoints/webhook/{name}": {"disable": False},
    "/cluster/notifications/matchers/{name}": {"disable": False, "mode": "all"},
    "/cluster/options": {"fencing": "watchdog", "mac_prefix": "BC:24:11"},
    "/cluster/qemu/custom-cpu-models/{cputype}": {"hidden": False, "reported-model": "kvm64"},
    "/cluster/replication/{id}": {"schedule": "*/15"},
    "/cluster/sdn/controllers/{controller}": {"bgp-mode": "auto", "peer-group-name": "VTEP"},
    "/cluster/sdn/vnets/{vnet}/firewall/options": {"enable": False},
    "/cluster/sdn/zones/{zone}": {"vlan-protocol": "802.1q", "vxlan-port": 4789},
    "/nodes/{node}/config": {"ballooning-target": 80, "startall-onboot-delay": 0},
    "/nodes/{node}/firewall/options": {
        "enable": True,
        "log_nf_conntrack": False,
        "ndp": True,
        "nf_conntrack_allow_invalid": False,
        "nf_conntrack_helpers": "",
        "nf_conntrack_max": 262144,
        "nf_conntrack_tcp_timeout_established": 432000,
        "nf_conntrack_tcp_timeout_syn_recv": 60,
        "nftables": False,
        "protection_synflood": False,
        "protection_synflood_burst": 1000,
        "protection_synflood_rate": 200,
        "tcpflags": False,
    },
    "/nodes/{node}/lxc/{vmid}/firewall/options": {"dhcp": False, "enable": False, "macfilter": True, "ndp": True},
    "/nodes/{node}/qemu/{vmid}/firewall/options": {"dhcp": False, "enable": False, "macfilter": True, "ndp": True},
    "/storage/{storage}": {
        "krbd": False,
        "nocow": False,
        "preallocation": "metadata",
        "saferemove-stepsize": 32,
        "skip-cert-verification": False,
        "smbversion": "default",
        "snapshot-as-volume-chain": False,
    },
}

# Paths whose objects have a digest that a change may name, so that it is refused if somebody else was faster.
DIGESTS = frozenset(
    {
        "/access/domains/{realm}",
        "/cluster/acme/plugins/{id}",
        "/cluster/firewall/aliases/{name}",
        "/cluster/firewall/groups/{group}/{pos}",
        "/cluster/firewall/ipset/{name}/{cidr}",
        "/cluster/firewall/options",
        "/cluster/firewall/rules/{pos}",
        "/cluster/ha/groups/{group}",
        "/cluster/ha/resources/{sid}",
        "/cluster/ha/rules/{rule}",
        "/cluster/mapping/dir/{id}",
        "/cluster/mapping/pci/{id}",
        "/cluster/mapping/usb/{id}",
        "/cluster/metrics/server/{id}",
        "/cluster/notifications/endpoints/gotify/{name}",
        "/cluster/notifications/endpoints/sendmail/{name}",
        "/cluster/notifications/endpoints/smtp/{name}",
        "/cluster/notifications/endpoints/webhook/{name}",
        "/cluster/notifications/matchers/{name}",
        "/cluster/qemu/custom-cpu-models/{cputype}",
        "/cluster/replication/{id}",
        "/cluster/sdn/controllers/{controller}",
        "/cluster/sdn/dns/{dns}",
        "/cluster/sdn/fabrics/fabric/{id}",
        "/cluster/sdn/fabrics/node/{fabric_id}/{node_id}",
        "/cluster/sdn/ipams/{ipam}",
        "/cluster/sdn/prefix-lists/{id}",
        "/cluster/sdn/prefix-lists/{id}/entries/{url_seq}",
        "/cluster/sdn/route-maps/entries/{route-map-id}/entry/{order}",
        "/cluster/sdn/vnets/{vnet}",
        "/cluster/sdn/vnets/{vnet}/firewall/options",
        "/cluster/sdn/vnets/{vnet}/firewall/rules/{pos}",
        "/cluster/sdn/vnets/{vnet}/subnets/{subnet}",
        "/cluster/sdn/zones/{zone}",
        "/nodes/{node}/apt/repositories",
        "/nodes/{node}/config",
        "/nodes/{node}/firewall/options",
        "/nodes/{node}/firewall/rules/{pos}",
        "/nodes/{node}/lxc/{vmid}/config",
        "/nodes/{node}/lxc/{vmid}/firewall/aliases/{name}",
        "/nodes/{node}/lxc/{vmid}/firewall/ipset/{name}/{cidr}",
        "/nodes/{node}/lxc/{vmid}/firewall/options",
        "/nodes/{node}/lxc/{vmid}/firewall/rules/{pos}",
        "/nodes/{node}/qemu/{vmid}/config",
        "/nodes/{node}/qemu/{vmid}/firewall/aliases/{name}",
        "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}/{cidr}",
        "/nodes/{node}/qemu/{vmid}/firewall/options",
        "/nodes/{node}/qemu/{vmid}/firewall/rules/{pos}",
        "/storage/{storage}",
    }
)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{[^}]+\}", "[^/]+", template))


def defaults_of(path: str) -> Mapping[str, object]:
    """Return what the parameters of a path mean that are not set, as far as the server's schema tells."""
    return next((found for template, found in DEFAULTS.items() if _pattern(template).fullmatch(path)), {})


def takes_digest(path: str) -> bool:
    """Tell whether a change of the object at this path may name its digest."""
    return any(_pattern(template).fullmatch(path) for template in DIGESTS)


def meaning(name: str, value: object) -> object:
    """Return the one value that stands for all with the same meaning: 1, "1" and true; a,b and b,a in a list; k=v in any order."""
    base = re.sub(r"\d+$", "", name)
    if isinstance(value, Mapping):
        return frozenset((str(key), _scalar(item)) for key, item in value.items())
    if base in PROPERTIES:
        pairs = (part.partition("=") for part in str(value).split(",") if part.strip())
        return frozenset((key.strip() if sign else "", _scalar(rest if sign else key)) for key, sign, rest in pairs)
    if name in LISTS or isinstance(value, (list, tuple)):
        return frozenset(map(str, value)) if isinstance(value, (list, tuple)) else frozenset(words(value))
    return _scalar(value)


def _scalar(value: object) -> object:
    if isinstance(value, bool):
        return Decimal(int(value))
    text = str(value).strip("\n")
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text


def text_of(name: str, value: object) -> object:
    """Return a value as it is sent: mappings as property strings, lists where they are lists for the server."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={int(item) if isinstance(item, bool) else item}" for key, item in value.items())
    if name in LISTS and isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return value

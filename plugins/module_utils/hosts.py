# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests and nodes as hosts of an inventory: which are wanted, what they are called, their variables, groups and address.

Everything here is pure. A row is an entry of ``/cluster/resources`` (PVE/API2/Cluster.pm, resources); facts are what the
guest's own endpoints answered, by the name of the subset.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import Refused
from .wire import did_you_mean, is_true, parse_tags

Row = Mapping[str, Any]
Facts = Mapping[str, Any]
Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

KINDS = ("qemu", "lxc")

# What a source of addresses must know of the guest: names of subsets of facts.
SOURCES: dict[str, frozenset[str]] = {
    "agent": frozenset({"config", "agent"}),
    "cloud_init": frozenset({"config"}),
    "lxc_interfaces": frozenset({"interfaces"}),
    "lxc_net": frozenset({"config"}),
    "name": frozenset(),
}

# Keys of a guest's config that its row tells better or in another form.
_ROW_KEYS = frozenset({"name", "tags", "template", "lock"})
_VOLUME = re.compile(r"^(?:(?:scsi|virtio|sata|ide|efidisk|tpmstate|mp)\d+|rootfs)$")
_NOT_IN_HOST = re.compile(r"[^\w.:-]+")
_GLOB = re.compile(r"[*?\[]")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_]")


# Which guests


@dataclass(frozen=True)
class Criterion:
    """One thing that a guest may be chosen by: any of the texts, or a text that any of the patterns matches."""

    key: str
    texts: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]


def values_of(row: Row, key: str) -> Sequence[str]:
    """Return what a guest is compared by."""
    if key == "tags":
        return parse_tags(row.get("tags"))
    if key == "names":
        return (guest_name(row),)
    if key == "template":
        return ("true" if is_true(row.get("template")) else "false",)
    value = row.get(_COLUMNS[key])
    return () if value is None else (str(value),)


_COLUMNS = {"nodes": "node", "pools": "pool", "status": "status", "types": "type", "vmids": "vmid"}
CRITERIA = (*sorted(_COLUMNS), "names", "tags", "template")


def criteria(option: str, wanted: Mapping[str, Any] | None) -> tuple[Criterion, ...]:
    """Return the criteria that the option gives; raises Refused for unknown ones and for patterns that are none.

    :param wanted: a pattern or a list of them for each key of CRITERIA.
    """
    found = []
    for key, patterns in (wanted or {}).items():
        if key not in CRITERIA:
            raise Refused(f"{option}: '{key}' is unknown; there are {', '.join(CRITERIA)}.")
        if isinstance(patterns, Mapping) or patterns is None:
            raise Refused(f"{option}: '{key}' needs a pattern or a list of patterns.")
        several = patterns if isinstance(patterns, (list, tuple)) else [patterns]
        texts = {str(one).lower() if isinstance(one, bool) else str(one) for one in several}
        # Thousands of names and VMIDs are looked up; only patterns are tried one after another.
        special = sorted(text for text in texts if text.startswith("~") or _GLOB.search(text))
        compiled = tuple(_pattern(f"{option}: {key}", text) for text in special)
        found.append(Criterion(key, frozenset(texts - set(special)), compiled))
    return tuple(found)


def ignoring_case(criterion: Criterion) -> Criterion:
    """Return the criterion that takes upper and lower case for the same."""
    patterns = [
        *(pattern.pattern for pattern in criterion.patterns),
        *(rf"{re.escape(one)}\Z" for one in criterion.texts),
    ]
    return Criterion(criterion.key, frozenset(), tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns))


def _pattern(where: str, text: str) -> re.Pattern[str]:
    """Return a shell pattern, or after a tilde a regular expression, as in Ansible's own host patterns."""
    try:
        return re.compile(text[1:] if text.startswith("~") else fnmatch.translate(text))
    except re.error as error:
        raise Refused(f"{where}: '{text}' is no regular expression: {error}.") from error


def is_chosen(row: Row, include: Sequence[Criterion], exclude: Sequence[Criterion]) -> bool:
    """Tell whether the guest meets every criterion of include and none of exclude."""
    return all(_meets(row, one) for one in include) and not any(_meets(row, one) for one in exclude)


def _meets(row: Row, criterion: Criterion) -> bool:
    return any(
        value in criterion.texts or any(pattern.match(value) for pattern in criterion.patterns)
        for value in values_of(row, criterion.key)
    )


def unmet(rows: Sequence[Row], include: Iterable[Criterion]) -> list[str]:
    """Return what to say of those texts of include, no patterns, that no guest has: misspelt, most likely."""
    told = []
    for one in include:
        known = {value for row in rows for value in values_of(row, one.key)}
        told += [f"{one.key}: {text}{did_you_mean([text], known)}" for text in sorted(one.texts - known)]
    return told


# What they are called


def guest_name(row: Row) -> str:
    """Return the guest's name; one without a name gets the name that the server shows for it.

    A fresh guest has none for some seconds, whatever its config says (PVE/QemuServer.pm and PVE/LXC.pm, vmstatus).
    """
    return str(row.get("name") or (f"VM {row['vmid']}" if row["type"] == "qemu" else f"CT{row['vmid']}"))


def host_name(text: object) -> str:
    """Return a name that Ansible takes as one host: anything else than letters, digits and ``_ . : -`` becomes a dash."""
    return _NOT_IN_HOST.sub("-", str(text)).strip("-")


def unique_names(names: Sequence[tuple[str, int]], taken: Iterable[str] = ()) -> tuple[list[str], dict[str, list[str]]]:
    """Return a name for each guest, no two alike, and which names had to change: the old one to the new ones.

    All who share a name get their VMID behind it, so that the bare name never means whichever came first.

    :param names: name and VMID of each guest.
    :param taken: names that are not free.
    """
    taken = set(taken)
    unique = [name for name, _vmid in names]
    changed: dict[str, list[str]] = {}
    while True:
        count = Counter(unique)
        clashing = [
            index for index, name in enumerate(unique) if (count[name] > 1 or name in taken) and name == names[index][0]
        ]
        if not clashing:
            return unique, changed
        for index in clashing:
            name, vmid = names[index]
            unique[index] = f"{name}-{vmid}"
            while unique[index] in taken:
                unique[index] += f"-{vmid}"
            changed.setdefault(name, []).append(unique[index])


# What is known of them


def safe_name(text: str) -> str:
    """Return the text as a name of a group or variable: no blanks, underscores for what may not be in it."""
    name = _NOT_IN_NAME.sub("_", text.replace(" ", ""))
    return f"_{name}" if name[:1].isdigit() else name


def guest_variables(row: Row) -> dict[str, Any]:
    """Return the variables that a row gives, without prefix; every guest has all of them, None where nothing is known."""
    tags = list(parse_tags(row.get("tags")))
    return {
        "vmid": int(row["vmid"]),
        "name": guest_name(row),
        "node": row["node"],
        "type": row["type"],
        "vmtype": row["type"],
        "status": row.get("status"),
        "tags": tags,
        "tags_parsed": tags,
        "pool": row.get("pool"),
        "template": is_true(row.get("template")),
        "lock": row.get("lock"),
        "ha_state": row.get("hastate"),
        **_measured(row),
    }


def node_variables(row: Row) -> dict[str, Any]:
    """Return the variables of a node, without prefix."""
    return {
        "node": row["node"],
        "name": row["node"],
        "type": "node",
        "status": row.get("status"),
        "ha_state": row.get("hastate"),
        **_measured(row),
    }


def _measured(row: Row) -> dict[str, Any]:
    """Return what pvestatd measures every ten seconds; sizes in bytes, cpu_usage 1 for all CPUs busy."""
    return {
        "uptime": row.get("uptime"),
        "cpu_usage": row.get("cpu"),
        "maxcpu": row.get("maxcpu"),
        "mem": row.get("mem"),
        "maxmem": row.get("maxmem"),
        "disk": row.get("disk"),
        "maxdisk": row.get("maxdisk"),
    }


def with_facts(row: Row, facts: Facts) -> Row:
    """Return the row with what the facts know better: the live state, and the name and kind of a fresh guest."""
    config, status = facts.get("config") or {}, facts.get("status") or {}
    known = {
        "name": row.get("name") or config.get("name") or config.get("hostname"),
        "template": row.get("template", config.get("template")),
        **{key: status[key] for key in ("uptime", "cpu", "mem", "maxmem", "disk", "maxdisk", "lock") if key in status},
    }
    return {**row, **{key: value for key, value in known.items() if value is not None}}


def fact_variables(facts: Facts) -> dict[str, Any]:
    """Return the variables that the facts give, without prefix."""
    found: dict[str, Any] = {}
    for key, value in (facts.get("config") or {}).items():
        # Without a prefix these would be settings of Ansible itself; the server has no such option.
        if key not in _ROW_KEYS and not key.lower().startswith("ansible_"):
            found[safe_name(key.lower())] = _config_value(key, value)
    status = facts.get("status")
    if status is not None:
        found["status"] = status.get("status")
        found["qmpstatus"] = status.get("qmpstatus", status.get("status"))
    if facts.get("snapshots") is not None:
        found["snapshots"] = [one["name"] for one in facts["snapshots"] if one.get("name") not in (None, "current")]
    if facts.get("agent") is not None:
        found["agent_interfaces"] = [
            {
                "name": interface.name,
                "mac-address": interface.mac,
                "ip-addresses": [f"{address}/{prefix}" for address, prefix in interface.addresses],
            }
            for interface in interfaces(facts["agent"])
        ]
    if facts.get("interfaces") is not None:
        keys = ("name", "hwaddr", "inet", "inet6")
        found["lxc_interfaces"] = [{key: one[key] for key in keys if key in one} for one in facts["interfaces"]]
    if facts.get("error") is not None:
        found["fact_gathering_failed"] = True
        found["fact_gathering_error"] = facts["error"]
    return found


def _config_value(key: str, value: Any) -> Any:
    """Return a value of a config; a property string whose parts all have a key becomes a dictionary of texts."""
    if key == "lxc" and isinstance(value, list):
        return {str(pair[0]).removeprefix("lxc."): pair[1] for pair in value}
    if not isinstance(value, str) or key == "description":
        return value
    text = f"disk_image={value}" if _VOLUME.match(key) else value
    parts = [part.partition("=") for part in text.split(",")]
    return {name: rest for name, _sign, rest in parts} if all(sign for _name, sign, _rest in parts) else value


# Which groups they are in


def guest_groups(row: Row, facts: Facts) -> list[tuple[str, str | None]]:
    """Return the groups of a guest, without prefix, each with the group that it is a child of.

    Templates are in none by type and status: what is done to all running VMs cannot be done to them.
    """
    node, kind = str(row["node"]), str(row["type"])
    groups: list[tuple[str, str | None]] = []
    if is_true(row.get("template")):
        groups += [("all_templates", None), (f"node_{node}", None)]
    else:
        live = facts.get("status") or {}
        status = live.get("qmpstatus") or live.get("status") or row.get("status") or "unknown"
        groups += [(f"all_{kind}", None), (f"all_{status}", None), (f"{node}_{kind}", f"node_{node}")]
    if row.get("pool"):
        groups.append((f"pool_{row['pool']}", None))
    groups += [(f"tag_{tag}", None) for tag in parse_tags(row.get("tags"))]
    return groups


def node_groups(row: Row) -> list[tuple[str, str | None]]:
    """Return the groups of a node, as guest_groups does."""
    return [(f"nodes_{row.get('status') or 'unknown'}", "nodes")]


# How they are reached


@dataclass(frozen=True)
class Interface:
    """A network interface as the guest itself sees it. :param addresses: address and length of its prefix."""

    name: str
    mac: str
    addresses: tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Networks:
    """Which addresses are liked. :param preferred: the earlier the better. :param refused: never used."""

    preferred: tuple[Network, ...] = ()
    refused: tuple[Network, ...] = ()


def networks(option: str, texts: Sequence[str] | None) -> tuple[Network, ...]:
    """Return the networks that the option names; raises Refused for what is none."""
    found = []
    for text in texts or ():
        try:
            found.append(ipaddress.ip_network(str(text), strict=False))
        except ValueError as error:
            raise Refused(f"{option}: '{text}' is not a network such as 10.0.0.0/8 or fd00::/8.") from error
    return tuple(found)


def interfaces(answer: Iterable[Mapping[str, Any]]) -> list[Interface]:
    """Return the interfaces that an agent or a container's node tells of; servers before 9 name a container's differently."""
    return [
        Interface(
            name=str(one.get("name", "")),
            mac=str(one.get("hardware-address") or one.get("hwaddr") or ""),
            addresses=tuple(_addresses_of(one)),
        )
        for one in answer
    ]


def _addresses_of(one: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    listed = one.get("ip-addresses")
    if listed is not None:
        for entry in listed:
            if entry.get("ip-address"):
                yield str(entry["ip-address"]), entry.get("prefix")
        return
    for key in ("inet", "inet6"):
        address, _slash, prefix = str(one.get(key) or "").partition("/")
        if address:
            yield address, prefix


def agent_is_enabled(config: Row) -> bool:
    """Tell whether the VM's config says that an agent runs in it: ``1``, ``enabled=1`` and options behind either."""
    parts = str(config.get("agent") or "0").split(",")
    values = [part.removeprefix("enabled=") for part in parts if "=" not in part or part.startswith("enabled=")]
    return any(is_true(value) for value in values)


def address(row: Row, facts: Facts, sources: Sequence[str], liked: Networks) -> str | None:
    """Return the address of the guest from the first source that has one; None where none has."""
    for source in sources:
        if source == "name":
            if row.get("name"):
                return str(row["name"])
            continue
        best = addresses(row, facts, source, liked)
        if best:
            return best[0]
    return None


def addresses(row: Row, facts: Facts, source: str, liked: Networks) -> list[str]:
    """Return the addresses of the guest that a source has and that others can use, the best one first."""
    return _ranked(list(_candidates(source, row, facts)), liked)


def _candidates(source: str, row: Row, facts: Facts) -> Iterator[tuple[str, bool]]:
    """Yield the addresses of a source, and of each whether it is on a network card that Proxmox VE gave to the guest."""
    config: Row = facts.get("config") or {}
    if source in ("agent", "lxc_interfaces"):
        cards = " ".join(str(value) for key, value in config.items() if re.match(r"net\d", key)).lower()
        for interface in interfaces(facts.get("agent" if source == "agent" else "interfaces") or ()):
            own = bool(interface.mac) and interface.mac.lower() in cards
            yield from ((text, own) for text, _prefix in interface.addresses)
    elif source == ("cloud_init" if row["type"] == "qemu" else "lxc_net"):
        slot = re.compile(r"^ipconfig(\d+)$" if row["type"] == "qemu" else r"^net(\d+)$")
        numbered = sorted((int(match[1]), key) for key in config if (match := slot.match(key)))
        for _number, key in numbered:
            parts = dict(part.partition("=")[::2] for part in str(config[key]).split(","))
            yield from ((parts[name].partition("/")[0], True) for name in ("ip", "ip6") if name in parts)


def _ranked(candidates: Sequence[tuple[str, bool]], liked: Networks) -> list[str]:
    """Return the addresses, the best first: in the earliest preferred network, then on a card of the guest, IPv4, first told."""
    ranked = []
    for index, (text, own) in enumerate(candidates):
        try:
            one = ipaddress.ip_address(text)
        except ValueError:
            continue  # dhcp, auto, manual
        if (
            one.is_loopback
            or one.is_link_local
            or one.is_multicast
            or one.is_unspecified
            or _inside(one, liked.refused)
        ):
            continue
        wanted = next((place for place, network in enumerate(liked.preferred) if one in network), len(liked.preferred))
        ranked.append((wanted, not own, one.version, index, str(one)))
    return list(dict.fromkeys(rank[-1] for rank in sorted(ranked)))


def _inside(one: Address, refused: Sequence[Network]) -> bool:
    return any(one in network for network in refused)

# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named formats of the API schema: what a value must look like, and the server's words when it does not.

`SCALARS` maps a format's name to a function that raises `ValueError` with the server's text. `PROPERTIES` maps the property-string
formats, which the published schema only names, to the schemas of their keys.
Sources: pve-common PVE/JSONSchema.pm, qemu-server PVE/QemuServer*.pm, pve-container PVE/LXC/Config.pm, pve-storage
PVE/Storage/Plugin.pm, pve-access-control PVE/AccessControl.pm and PVE/Auth/Plugin.pm, pve-ha-manager PVE/HA/Tools.pm.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

Scalar = Callable[[str], None]

# How many of an indexed option there are: the published schema only says `net[n]`.
QEMU_LIMITS: Mapping[str, int] = {
    "net": 32, "scsi": 31, "virtio": 16, "sata": 6, "ide": 4, "unused": 256, "usb": 14, "hostpci": 16, "serial": 4,
    "parallel": 3, "numa": 8, "ipconfig": 32, "virtiofs": 10,
}  # fmt: skip
LXC_LIMITS: Mapping[str, int] = {"net": 32, "mp": 256, "unused": 256, "dev": 256}
OTHER_LIMITS: Mapping[str, int] = {"link": 8, "acmedomain": 6}

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DNS_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_VOLUME_ID = re.compile(r"[a-z][a-z0-9\-_.]*[a-z0-9]:(.+)", re.I)
_CONFIG_ID = re.compile(r"[a-z][a-z0-9_-]+", re.I)
_PCI = r"(?:(?:[0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-9a-fA-F])?)"
_BASE64 = r"[A-Za-z0-9+\/]+={0,2}"
_EMAIL = re.compile(r"[\w+\-~.]+@[a-zA-Z0-9\-]+(?:\.[a-zA-Z0-9\-]+)*")


def split_list(text: str) -> list[str]:
    """The entries of a list in one text: separated by comma, semicolon, blank or NUL (PVE::ParseUtils split_list)."""
    return [entry for entry in re.split(r"[,;\s\0]+", text) if entry]


def parse_size(text: str) -> int | None:
    """Bytes of `32G`, `1.5T`, `512`; None when it is no size (PVE::JSONSchema parse_size)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT](?:iB)?)?", text)
    if not found:
        return None
    return int(float(found[1]) * 1024 ** ("KMGT".index(found[2][0]) + 1 if found[2] else 0))


def parse_boolean(text: str) -> int | None:
    """1 or 0 of a boolean inside a property string; None when it is none (PVE::JSONSchema parse_boolean)."""
    word = text.lower()
    return 1 if word in ("1", "on", "yes", "true") else 0 if word in ("0", "off", "no", "false") else None


def _matching(pattern: str, text: str, flags: int = 0) -> Scalar:
    """A check against a pattern; `{}` in the text stands for the value."""
    compiled = re.compile(pattern, flags | re.ASCII)

    def check(value: str) -> None:
        if not compiled.fullmatch(value):
            raise ValueError(text.replace("{}", value))

    return check


def _identifier(kind: str) -> Scalar:
    def check(value: str) -> None:
        if len(value) < 2:
            raise ValueError(f"{kind} ID '{value}' cannot be shorter than 2 characters")
        if not re.fullmatch(r"[a-z][a-z0-9\-_.]*[a-z0-9]", value, re.I):
            raise ValueError(f"{kind} ID '{value}' contains illegal characters")

    return check


def _is_ip(value: str, version: int = 0) -> bool:
    try:
        return version in (0, ipaddress.ip_address(value).version)
    except ValueError:
        return False


def _is_cidr(value: str, version: int = 0) -> bool:
    address, slash, bits = value.partition("/")
    if not slash or not bits.isdigit() or not _is_ip(address, version):
        return False
    return 7 < int(bits) <= (128 if _is_ip(address, 6) else 32)


def _accepting(test: Callable[[str], object], text: str) -> Scalar:
    """A check by any test; `{}` in the text stands for the value."""

    def check(value: str) -> None:
        if not test(value):
            raise ValueError(text.replace("{}", value))

    return check


def _id_map(check: Scalar) -> Scalar:
    """One entry of a map like `local:shared` or a single default (PVE::JSONSchema parse_idmap)."""

    def check_map(value: str) -> None:
        if value == "1":
            return
        for part in value.split(":") if re.fullmatch(r"[^:]+:[^:]+", value) else [value]:
            try:
                check(part)
            except ValueError as error:
                raise ValueError(f"entry '{value}' contains invalid ID - {error}\n") from None

    return check_map


def _startup(value: str) -> None:
    parts = [part for part in value.split(",") if part.strip()]
    if not value or not all(re.fullmatch(r"(?:(?:order=)?|up=|down=)\d+", part) for part in parts):
        raise ValueError("unable to parse startup options")


def _boot_device(value: str) -> None:
    found = re.fullmatch(r"(ide|scsi|virtio|sata|net|usb|hostpci)(\d+)", value)
    if not found or int(found[2]) >= QEMU_LIMITS[found[1]]:
        raise ValueError(f"invalid boot device '{value}'")


def _boot_disk(value: str) -> None:
    found = re.fullmatch(r"(ide|scsi|virtio|sata)(\d+)", value)
    if value not in ("efidisk0", "tpmstate0") and (not found or int(found[2]) >= QEMU_LIMITS[found[1]]):
        raise ValueError(f"invalid boot disk '{value}'")


def _hotplug(value: str) -> None:
    # "0" and "1" stand for nothing and for the default.
    for feature in split_list(value) if value not in ("0", "1") else []:
        if feature not in ("network", "disk", "cpu", "memory", "usb", "cloudinit"):
            raise ValueError(f"invalid hotplug feature '{feature}'")


def _vlan(value: str) -> None:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", value)
    if not found:
        raise ValueError(f"invalid VLAN configuration '{value}'")
    for tag in (found[1], found[2]):
        if tag and not 2 <= int(tag) <= 4094:
            raise ValueError(f"invalid VLAN tag '{tag}'")
    if found[2] and int(found[1]) >= int(found[2]):
        raise ValueError(f"VLAN range must go from lower to higher tag '{value}'")


def _physical_bits(value: str) -> None:
    if not re.fullmatch(r"host|\d{1,2}", value) or (value != "host" and not 8 <= int(value) <= 64):
        raise ValueError("value must be an integer between 8 and 64 or 'host'")


def _cpu_set(value: str) -> None:
    if not re.fullmatch(r"\s*\d+(?:-\d+)?(?:\s*,\s*\d+(?:-\d+)?)*\s*", value):
        raise ValueError("unable to parse cpuset option")


def _volume(value: str) -> None:
    if not _VOLUME_ID.fullmatch(value):
        raise ValueError(f"unable to parse volume ID '{value}'")


def _volume_or_path(value: str) -> None:
    if not value.startswith("/"):
        _volume(value)


def _volume_or_qm_path(value: str) -> None:
    if value not in ("none", "cdrom"):
        _volume_or_path(value)


def _mount_path(value: str) -> None:
    if re.search(r"/\.\.?/|/\.\.?$|^\.\./", value):
        raise ValueError(f"{value} contains illegal character sequences")


def _lxc_device(value: str) -> None:
    if re.search(r"/\.\.?/|/\.\.?$|^\.\./|^\.\.$", value):
        raise ValueError(f"{value} contains illegal character sequences")
    if not value.startswith("/dev/"):
        raise ValueError(f"{value} is not a valid device path")


def _ip_with_interface(value: str) -> None:
    if not _is_ip(value) and not re.fullmatch(r"(?i:fe[89ab][0-9a-f]):[^%]*%\w+", value):
        raise ValueError("value does not look like a valid IP address")


def _pool(value: str) -> None:
    if len(value.split("/")) > 3:
        raise ValueError(f"pool name '{value}' nested too deeply (max levels = 3)")
    if not re.fullmatch(r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}", value):
        raise ValueError(f"pool name '{value}' contains invalid characters")


def _user(value: str) -> None:
    if not 3 <= len(value) <= 64:
        side = "long" if len(value) > 64 else "short"
        raise ValueError(f"user name '{value}' is too {side}")
    if not re.fullmatch(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", value):
        raise ValueError("value does not look like a valid user name")


def _calendar(value: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9*/.,:\- ]+", value):
        raise ValueError(f"unable to parse calendar event '{value}' - unused parts")


def _time_zone(value: str) -> None:
    if value not in ("UTC", "host") and not re.fullmatch(r"[A-Z][A-Za-z]+(?:/[A-Za-z0-9_+\-]+)+", value):
        raise ValueError(f"invalid time zone '{value}'")


_CONTENT = ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import")
_storage_id = _identifier("storage")
_bridge_id = _matching(r"[-_.\w\d]+", "invalid bridge ID '{}'")
_ipv4 = _accepting(lambda v: _is_ip(v, 4), "value does not look like a valid IPv4 address")
_ipv6 = _accepting(lambda v: _is_ip(v, 6), "value does not look like a valid IPv6 address")
_ip = _accepting(_is_ip, "value does not look like a valid IP address")
_cidr = _accepting(_is_cidr, "value does not look like a valid CIDR network")
_email = _accepting(_EMAIL.fullmatch, "value does not look like a valid email address")
_server = _accepting(
    lambda v: _is_ip(v) or _DNS_NAME.fullmatch(v), "value does not look like a valid server name or IP address"
)


def _anything(value: str) -> None:
    """Formats of parts of the API that the simulator does not model: the server would look closer."""


SCALARS: Mapping[str, Scalar] = {
    "urlencoded": _matching(r"[-%a-zA-Z0-9_.!~*'()]*", "invalid urlencoded string: {}"),
    "pve-configid": _accepting(_CONFIG_ID.fullmatch, "invalid configuration ID '{}'"),
    "pve-storage-id": _storage_id,
    "pve-bridge-id": _bridge_id,
    "acme-plugin-id": _identifier("ACME plugin"),
    "pve-vmid": _matching(r"[1-9][0-9]{2,8}", "value does not look like a valid VM ID"),
    "pve-node": _matching(_LABEL, "value does not look like a valid node name"),
    "storage-pair": _id_map(_storage_id),
    "bridge-pair": _id_map(_bridge_id),
    "mac-addr": _matching(
        r"[a-f0-9][02468ace](?::[a-f0-9]{2}){5}", "value does not look like a valid unicast MAC address", re.I
    ),
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "ip": _ip,
    "ipv4mask": _matching(r"(?:\d{1,3}\.){3}\d{1,3}", "value does not look like a valid IP netmask"),
    "CIDR": _cidr,
    "FullRangeCIDR": _accepting(lambda v: "/" in v, "value does not look like a valid CIDR network"),
    "CIDRv4": _accepting(lambda v: _is_cidr(v, 4), "value does not look like a valid IPv4 CIDR network"),
    "CIDRv6": _accepting(lambda v: _is_cidr(v, 6), "value does not look like a valid IPv6 CIDR network"),
    "pve-ipv4-config": _accepting(
        lambda v: v in ("dhcp", "manual") or _is_cidr(v, 4),
        "value does not look like a valid ipv4 network configuration",
    ),
    "pve-ipv6-config": _accepting(
        lambda v: v in ("auto", "dhcp", "manual") or _is_cidr(v, 6),
        "value does not look like a valid ipv6 network configuration",
    ),
    "email": _email,
    "email-or-username": _accepting(
        lambda v: _EMAIL.fullmatch(v) or re.fullmatch(r"[\w+\-~.]+", v),
        "value does not look like a valid email address or user name",
    ),
    "dns-name": _accepting(_DNS_NAME.fullmatch, "value does not look like a valid DNS name"),
    "address": _accepting(
        lambda v: _is_ip(v) or _DNS_NAME.fullmatch(v), "value does not look like a valid address: {}"
    ),
    "pve-iface": _matching(r"[a-z][a-z0-9_]{1,20}(?:[:.]\d+)?", "invalid network interface name '{}'", re.I),
    "pve-vlan-id-or-range": _vlan,
    "disk-size": _accepting(lambda v: parse_size(v) is not None, "value does not look like a valid disk size: {}"),
    "pve-startup-order": _startup,
    "pve-tag": _matching(r"[a-z0-9_][a-z0-9_\-+.]*", "invalid characters in tag", re.I),
    "pve-task-status-type": _matching(r"ok|error|warning|unknown", "invalid status '{}'", re.I),
    "pve-qm-bootdev": _boot_device,
    "pve-qm-bootdisk": _boot_disk,
    "pve-hotplug-features": _hotplug,
    "pve-phys-bits": _physical_bits,
    "pve-cpuset": _cpu_set,
    "pve-volume-id": _volume,
    "pve-volume-id-or-absolute-path": _volume_or_path,
    "pve-volume-id-or-qm-path": _volume_or_qm_path,
    "pve-lxc-mp-string": _mount_path,
    "pve-lxc-dev-string": _lxc_device,
    "lxc-ip-with-ll-iface": _ip_with_interface,
    "pve-ct-timezone": _time_zone,
    "pve-storage-content": _accepting(_CONTENT.__contains__, "invalid content type '{}'"),
    "pve-storage-path": _matching(r"/[^;()]+.*", "value does not look like a valid absolute path"),
    "pve-storage-server": _server,
    "pve-storage-vgname": _matching(
        r"[a-z0-9][a-z0-9\-_.]*[a-z0-9]", "lvm name '{}' contains illegal characters", re.I
    ),
    "pve-storage-options": _matching(r"\S+", "invalid options '{}'"),
    "pve-groupid": _matching(r"[A-Za-z0-9.\-_]+", "group name '{}' contains invalid characters"),
    "pve-roleid": _matching(r"[A-Za-z0-9.\-_]+", "role name '{}' contains invalid characters"),
    "pve-poolid": _pool,
    "pve-realm": _matching(r"[A-Za-z][A-Za-z0-9.\-_]+", "value does not look like a valid realm"),
    "pve-userid": _user,
    "pve-tokenid": _matching(
        r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+", "value '{}' does not look like a valid token ID"
    ),
    "pve-priv": _matching(r"[A-Z][A-Za-z]*(?:\.[A-Z][A-Za-z]*)+", "invalid privilege '{}'"),
    "pve-ha-resource-id": _matching(r"[a-z]+:\S+", "value does not look like a valid ha resource id"),
    "pve-ha-resource-or-vm-id": _matching(r"[a-z]+:\S+|\d+", "value does not look like a valid ha resource id"),
    "pve-ha-node": _matching(rf"{_LABEL}(?::\d+)?", "value does not look like a valid ha node"),
    "pve-day-of-week": _matching(r"mon|tue|wed|thu|fri|sat|sun", "invalid day '{}'"),
    "pve-calendar-event": _calendar,
    "string": _anything,
    "regex": _anything,
}

# Formats of the firewall, SDN, storage definitions, certificates and realms: accepted as they come.
_UNCHECKED = """pve-fw-addr-spec pve-fw-dport-spec pve-fw-sport-spec pve-fw-icmp-type-spec pve-fw-protocol-spec IPorCIDR
    IPorCIDRorAlias pve-fw-conntrack-helper pve-sdn-fabric-id pve-sdn-route-map-id pve-sdn-prefix-list-id pve-sdn-subnet-id
    pve-sdn-isis-net pve-sdn-bgp-rt pve-replication-job-id ldap-simple-attr pve-tfa-config realm-sync-options proxmox-remote
    graphite-path mac-prefix pem-certificate-chain pem-string pve-acme-domain pve-acme-alias pve-command-batch
    pve-storage-portal-dns pve-storage-zfs-blocksize pve-dir-override"""
UNCHECKED = frozenset(_UNCHECKED.split())

Key = Mapping[str, Any]


def _key(kind: str = "string", **more: Any) -> Key:
    return {"type": kind, "optional": 1, **more}


_FLAG = _key("boolean")
_ENUM_RNG = ["/dev/urandom", "/dev/random", "/dev/hwrng"]
_PCI_ID = _key(pattern=r"^0x[0-9a-fA-F]{4}$")
_COUNT = _key("integer", minimum=0)

PROPERTIES: Mapping[str, Mapping[str, Key]] = {
    "pve-qm-ipconfig": {
        "ip": _key(format="pve-ipv4-config"),
        "gw": _key(format="ipv4", requires="ip"),
        "ip6": _key(format="pve-ipv6-config"),
        "gw6": _key(format="ipv6", requires="ip6"),
    },
    "pve-vm-cpu-conf": {
        "cputype": _key(default_key=1),
        "reported-model": _key(),
        "hidden": _FLAG,
        "hv-vendor-id": _key(pattern=r"[a-zA-Z0-9]{1,12}"),
        "flags": _key(pattern=r"[+-][a-zA-Z0-9\-_.]+(;[+-][a-zA-Z0-9\-_.]+)*"),
        "guest-phys-bits": _key("integer", minimum=32, maximum=64),
        "phys-bits": _key(format="pve-phys-bits"),
        "level": _key("integer", minimum=0, maximum=4294967295),
    },
    "pve-qm-hostpci": {
        "host": _key(default_key=1, pattern=rf"{_PCI}(;{_PCI})*"),
        "mapping": _key(format="pve-configid"),
        "rombar": _FLAG,
        "romfile": _key(pattern=r"[^,;]+"),
        "pcie": _FLAG,
        "x-vga": _FLAG,
        "legacy-igd": _FLAG,
        "mdev": _key(pattern=r"[^/\.:]+"),
        "vendor-id": _PCI_ID,
        "device-id": _PCI_ID,
        "sub-vendor-id": _PCI_ID,
        "sub-device-id": _PCI_ID,
        "driver": _key(enum=["vfio", "keep"]),
    },
    "pve-qm-smbios1": {
        "uuid": _key(pattern=r"[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}"),
        **{name: _key(pattern=_BASE64) for name in ("version", "serial", "manufacturer", "product", "sku", "family")},
        "base64": _FLAG,
    },
    "pve-qm-watchdog": {
        "model": _key(default_key=1, enum=["i6300esb", "ib700"]),
        "action": _key(enum=["reset", "shutdown", "poweroff", "pause", "debug", "none"]),
    },
    "pve-qm-rng": {
        "source": {"type": "string", "default_key": 1, "enum": _ENUM_RNG},
        "max_bytes": _key("integer"),
        "period": _key("integer"),
    },
    "pve-qm-boot": {
        "legacy": _key(default_key=1, pattern=r"[acdn]{1,4}"),
        "order": _key(format="pve-qm-bootdev-list"),
    },
    "pve-qm-cicustom": {name: _key(format="pve-volume-id") for name in ("meta", "network", "user", "vendor")},
    "pve-qemu-sev-fmt": {
        "type": {"type": "string", "default_key": 1, "enum": ["std", "es", "snp"], "maxLength": 3},
        **dict.fromkeys(("no-debug", "no-key-sharing", "allow-smt", "kernel-hashes"), _FLAG),
    },
    "pve-qemu-tdx-fmt": {
        "type": {"type": "string", "default_key": 1, "enum": ["tdx"]},
        "attestation": {"type": "boolean"},
        "vsock-cid": _key("integer", minimum=2),
        "vsock-port": _key("integer", minimum=0),
    },
    "prune-backups": {
        "keep-all": _FLAG,
        **{f"keep-{span}": _COUNT for span in ("last", "hourly", "daily", "weekly", "monthly", "yearly")},
    },
    "backup-fleecing": {"enabled": _key("boolean", default_key=1), "storage": _key(format="pve-storage-id")},
    "backup-performance": {
        "max-workers": _key("integer", minimum=1, maximum=256),
        "pbs-entries-max": _key("integer", minimum=1),
    },
}

_INTEL = """486 pentium pentium2 pentium3 coreduo core2duo Conroe Penryn Nehalem Nehalem-IBRS Westmere Westmere-IBRS SandyBridge
    SandyBridge-IBRS IvyBridge IvyBridge-IBRS Haswell Haswell-IBRS Haswell-noTSX Haswell-noTSX-IBRS Broadwell Broadwell-IBRS
    Broadwell-noTSX Broadwell-noTSX-IBRS Skylake-Client Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Client-v4
    Skylake-Server Skylake-Server-IBRS Skylake-Server-noTSX-IBRS Skylake-Server-v4 Skylake-Server-v5 Cascadelake-Server
    Cascadelake-Server-v2 Cascadelake-Server-noTSX Cascadelake-Server-v4 Cascadelake-Server-v5 Cooperlake Cooperlake-v2
    KnightsMill Icelake-Client Icelake-Client-noTSX Icelake-Server Icelake-Server-noTSX Icelake-Server-v3 Icelake-Server-v4
    Icelake-Server-v5 Icelake-Server-v6 Icelake-Server-v7 SapphireRapids SapphireRapids-v2 SapphireRapids-v3
    SapphireRapids-v4 GraniteRapids GraniteRapids-v2 GraniteRapids-v3 SierraForest SierraForest-v2 SierraForest-v3
    ClearwaterForest"""
_AMD = """athlon phenom Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 EPYC EPYC-IBPB EPYC-v3 EPYC-v4 EPYC-v5 EPYC-Rome
    EPYC-Rome-v2 EPYC-Rome-v3 EPYC-Rome-v4 EPYC-Rome-v5 EPYC-Milan EPYC-Milan-v2 EPYC-Milan-v3 EPYC-Genoa EPYC-Genoa-v2
    EPYC-Turin"""
_OTHER_CPUS = """kvm32 kvm64 qemu32 qemu64 max host x86-64-v2 x86-64-v2-AES x86-64-v3 x86-64-v4 a64fx cortex-a35 cortex-a53
    cortex-a55 cortex-a57 cortex-a710 cortex-a72 cortex-a76 neoverse-n1 neoverse-n2 neoverse-v1"""
CPU_TYPES = frozenset((_INTEL + " " + _AMD + " " + _OTHER_CPUS).split())
_CPU_FLAGS = (
    "nested-virt md-clear pcid spec-ctrl ssbd ibpb virt-ssbd amd-ssbd amd-no-ssb pdpe1gb hv-tlbflush hv-evmcs aes"
)
CPU_FLAGS = tuple(_CPU_FLAGS.split())


def _cpu(value: Mapping[str, str]) -> None:
    """What a VM's own `cpu` may hold beyond the types of its keys (qemu-server CPUConfig.pm validate_vm_cpu_conf)."""
    kind = value.get("cputype")
    if not kind:
        raise ValueError("CPU is missing cputype")
    if kind.startswith("custom-"):
        raise ValueError(f"Custom cputype '{kind[len('custom-') :]}' not found")
    if kind not in CPU_TYPES:
        raise ValueError(f"Built-in cputype '{kind}' is not defined (missing 'custom-' prefix?)")
    if not all(flag[1:] in CPU_FLAGS for flag in value.get("flags", "").split(";") if flag):
        raise ValueError("VM-specific CPU flags must be a subset of: " + ", ".join(CPU_FLAGS))
    if "reported-model" in value:
        raise ValueError("Property 'reported-model' not allowed in VM-specific CPU config.")


def _prune(value: Mapping[str, str]) -> None:
    if value.get("keep-all") == "1" and any(int(count) > 0 for key, count in value.items() if key != "keep-all"):
        raise ValueError("keep-all cannot be set together with other options.")


def _fleecing(value: Mapping[str, str]) -> None:
    if value.get("enabled") == "1" and not value.get("storage"):
        raise ValueError("'storage' parameter is required when 'enabled' is set")


# Checks of a whole property string, after those of its keys.
VALIDATORS: Mapping[str, Callable[[Mapping[str, str]], None]] = {
    "pve-vm-cpu-conf": _cpu,
    "prune-backups": _prune,
    "backup-fleecing": _fleecing,
}

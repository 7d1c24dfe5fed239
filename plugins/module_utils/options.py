# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of a guest's configuration: what kind of value it holds and what it means when it is not set.

The tables follow the schema of the two config endpoints; a test compares them with it. Index limits and formats that the schema
only names are from qemu-server (PVE/QemuServer.pm, QemuServer/{CPUConfig,Drive,Network,PCI,RNG,USB,Virtiofs}.pm) and pve-container
(PVE/LXC/Config.pm).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from .errors import Refused
from .wire import (
    Properties,
    boolean,
    format_properties,
    meaning,
    merge_properties,
    number,
    number_text,
    parse_properties,
    shown_properties,
    slip,
    words,
)


@dataclass(frozen=True)
class Scalar:
    """An option with one value. :param kind: a key of READ and WRITE. :param default: what it means when it is not set."""

    kind: str
    default: Any = None


Option: TypeAlias = "Scalar | Properties"


# --- kinds of values: text of the server or value of a person -> the one value that stands for all with the same meaning ---


def _integer(value: object) -> int:
    exact = number(value)
    if exact != int(exact):
        raise ValueError(f"'{value}' is no whole number")
    return int(exact)


def _memory(value: object) -> int:
    return _integer(value.removeprefix("current=") if isinstance(value, str) else value)


def _number(value: object) -> int | float:
    exact = number(value)
    return int(exact) if exact == int(exact) else float(exact)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (Mapping, list)):
        raise ValueError(f"{value} is no text")
    text = str(value)
    if "\n" in text.strip():
        raise ValueError("it has several lines, and the server takes one")
    text = text.strip()
    # The server takes quotes around a value away (PVE/QemuServer.pm, check_type).
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _weight(value: object) -> int:
    # The server caps weights at what version 2 of cgroups takes (PVE/CGroup.pm, clamp_cpu_shares).
    return min(_integer(value), 10000)


def _tags(value: object) -> tuple[str, ...]:
    return tuple(sorted(set(words(value))))


def _hotplug(value: object) -> tuple[str, ...]:
    found = tuple(sorted(set(words(value))))
    if found in (("0",), ("False",)):
        return ()
    return DEFAULT_HOTPLUG if found in (("1",), ("True",)) else found


def _boot(value: object) -> tuple[str, ...]:
    """Return the devices in order, or the letters of the old form as a single entry."""
    found = words(value)
    return words(found[0].removeprefix("order=").removeprefix("legacy=")) + found[1:] if found else ()


def _boot_text(value: tuple[str, ...]) -> str:
    legacy = len(value) == 1 and re.fullmatch(r"[acdn]{1,4}", value[0])
    return value[0] if legacy else f"order={';'.join(value)}"


def _lines(value: object) -> tuple[str, ...]:
    """Return SSH keys: a list, lines, or the percent-encoded lines that the server keeps."""
    lines = [str(line) for line in value] if isinstance(value, (list, tuple)) else [str(value)]
    decoded = [unquote(line) if re.fullmatch(r"[-%a-zA-Z0-9_.!~*'()]+", line) else line for line in lines]
    return tuple(sorted({part.strip() for line in decoded for part in line.splitlines() if part.strip()}))


def _lines_text(value: tuple[str, ...]) -> str:
    return quote("\n".join(value), safe="")


def _cpuset(value: object) -> tuple[int, ...]:
    """Return the CPUs of a set like 0,5,8-11."""
    found: set[int] = set()
    for part in words(value):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"'{part}' is neither a CPU nor a range of CPUs")
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def _cpuset_text(value: tuple[int, ...]) -> str:
    runs: list[list[int]] = []
    for cpu in value:
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


READ: Mapping[str, Callable[[Any], Any]] = {
    "boolean": boolean,
    "integer": _integer,
    "weight": _weight,
    "memory": _memory,
    "number": _number,
    "text": _text,
    "folded": lambda value: _text(value).lower(),
    "description": lambda value: str(value).rstrip(),
    "tags": _tags,
    "words": words,
    "hotplug": _hotplug,
    "boot": _boot,
    "ssh keys": _lines,
    "cpus": _cpuset,
    "environment": lambda value: words(value, r"\0"),
    "vmids": lambda value: tuple(sorted({_integer(word) for word in words(value)})),
    "set": lambda value: tuple(sorted(set(words(value)))),
    "paths": lambda value: tuple(sorted(set(words(value, r"\0")))),
    "schedule": lambda value: " ".join(str(value).lower().split()),
}

WRITE: Mapping[str, Callable[[Any], Any]] = {
    "tags": ";".join,
    "words": " ".join,
    "hotplug": lambda value: ",".join(value) or "0",
    "boot": _boot_text,
    "ssh keys": _lines_text,
    "cpus": _cpuset_text,
    "environment": "\0".join,
    "vmids": lambda value: ",".join(str(vmid) for vmid in value),
    "set": ",".join,
    "paths": list,
}

DEFAULT_HOTPLUG = ("disk", "network", "usb")

# vmgenid=1 asks for an id, whichever it is.
ANY_ID = "1"


# --- from the present and the wanted value to what is to be sent ---


@dataclass(frozen=True)
class Change:
    """What becomes of one option.

    :param before: as people read it. :param after: the same when it is done.
    :param value: what to send; None where nothing is to be sent or where it is to be removed.
    """

    before: Any
    after: Any
    value: Any = None
    removes: bool = False

    @property
    def changes(self) -> bool:
        return self.removes or self.value is not None


def is_empty(wanted: object) -> bool:
    """Tell whether a person's value asks for the option's removal."""
    return wanted == "" or wanted == []


def removal(option: Option, present: str | None) -> Change:
    """Return what becomes of an option that is to be unset."""
    gone = shown(option, None)
    return Change(gone if present is None else shown(option, present), gone, removes=present is not None)


def shown(option: Option, text: object | None) -> Any:
    """Return the whole value as people read it, None or the default where it is not set."""
    if isinstance(option, Properties):
        if text is None:
            return None
        found = parse_properties(option, text)
        return shown_properties(option, found, found)
    return _readable(option.default if text is None else READ[option.kind](text))


def settle(option: Option, key: str, present: object | None, wanted: object) -> Change:
    """Return what becomes of an option.

    :param present: the server's text, None where it is not set.
    :param wanted: a person's value; ValueError where the option cannot have it.
    """
    if is_empty(wanted):
        return removal(option, None if present is None else str(present))
    if isinstance(option, Properties):
        return _settle_properties(option, key, present, wanted)
    value = READ[option.kind](wanted)
    have = option.default if present is None else READ[option.kind](present)
    if key == "vmgenid" and value == ANY_ID and have not in (None, "0"):
        have = ANY_ID
    if have == value:
        return Change(_readable(have), _readable(have))
    return Change(_readable(have), _readable(value), WRITE.get(option.kind, _plain)(value))


def _settle_properties(form: Properties, key: str, present: object | None, wanted: object) -> Change:
    given = parse_properties(form, wanted)
    have = {} if present is None else parse_properties(form, present)
    index = re.sub(r"\D", "", key)
    start = have if present is not None else {name: text.format(n=index) for name, text in form.initial.items()}
    merged = merge_properties(form, start, given)
    named = set(given) | (set(have) - set(merged))
    exists = present is not None or not form.device
    before = shown_properties(form, have, named) if exists else None
    if exists and meaning(form, have) == meaning(form, merged):
        return Change(before, before)
    if not merged:
        return Change(before, None if form.device else shown_properties(form, {}, named), removes=present is not None)
    return Change(before, shown_properties(form, merged, named), format_properties(form, merged))


def _readable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    return number_text(number(value)) if isinstance(value, float) else value


# --- the tables ---


def _flag(default: bool | None = False) -> Scalar:
    return Scalar("boolean", default)


def _count(default: int | None = None) -> Scalar:
    return Scalar("integer", default)


def _word(default: str | None = None) -> Scalar:
    return Scalar("text", default)


_WORDS = Scalar("words", ())

_NET_MODELS = frozenset(
    words(
        "e1000 e1000-82540em e1000-82544gc e1000-82545em e1000e i82551 i82557b i82559er ne2k_isa ne2k_pci pcnet rtl8139 virtio "
        "vmxnet3"
    )
)

_NET = Properties(
    default_key="model",
    booleans=frozenset({"firewall", "link_down", "host-tunnel"}),
    numbers=frozenset({"tag", "mtu", "queues", "rate"}),
    sets=frozenset({"trunks"}),
    folded=frozenset({"macaddr"}),
    texts=frozenset({"bridge"}),
    aliases={"mac": "macaddr", "hwaddr": "macaddr"},
    models=_NET_MODELS,
    model_value="macaddr",
    defaults={"firewall": "0", "link_down": "0"},
    device=True,
    initial={"model": "virtio"},
)

_NO_GATEWAY = {
    **dict.fromkeys(("ip=dhcp", "ip=manual"), ("gw",)),
    **dict.fromkeys(("ip6=dhcp", "ip6=auto", "ip6=manual"), ("gw6",)),
}

_LXC_NET = Properties(
    booleans=frozenset({"firewall", "link_down", "host-managed"}),
    numbers=frozenset({"tag", "mtu", "rate"}),
    sets=frozenset({"trunks"}),
    folded=frozenset({"hwaddr"}),
    texts=frozenset({"bridge", "gw", "gw6", "ip", "ip6", "name"}),
    aliases={"mac": "hwaddr", "macaddr": "hwaddr"},
    defaults={"firewall": "0", "link_down": "0", "host-managed": "0", "type": "veth"},
    excludes=_NO_GATEWAY,
    device=True,
    initial={"name": "eth{n}"},
)

_IPCONFIG = Properties(texts=frozenset({"gw", "gw6", "ip", "ip6"}), excludes=_NO_GATEWAY, device=True)

_THROTTLES = frozenset(
    f"{what}{way}{limit}" for what in ("mbps", "iops") for way in ("", "_rd", "_wr") for limit in ("", "_max")
)
_BURSTS = frozenset(f"{what}{way}_max_length" for what in ("bps", "iops") for way in ("", "_rd", "_wr"))

_BASE_DRIVE = Properties(
    default_key="file",
    booleans=frozenset({"backup", "detect_zeroes", "replicate", "shared", "snapshot"}),
    numbers=_THROTTLES | _BURSTS | {"bps", "bps_rd", "bps_wr"},
    texts=frozenset({"aio", "cache", "format", "import-from", "rerror", "serial", "size", "werror"}),
    aliases={
        "volume": "file",
        **{f"{what}_{way}_length": f"{what}_{way}_max_length" for what in ("bps", "iops") for way in ("rd", "wr")},
    },
    switches={"discard": ("on", "ignore")},
    defaults={
        "backup": "1",
        "discard": "ignore",
        "media": "disk",
        "replicate": "1",
        "shared": "0",
        "snapshot": "0",
    },
    # A limit for both ways and one for each exclude each other (PVE/QemuServer/Drive.pm, parse_drive).
    excludes={
        **{what: (f"{what}_rd", f"{what}_wr") for what in ("mbps", "iops")},
        **{f"{what}_{way}": (what,) for what in ("mbps", "iops") for way in ("rd", "wr")},
    },
    device=True,
)


def _drive(*booleans: str, numbers: tuple[str, ...] = (), texts: tuple[str, ...] = ()) -> Properties:
    extra = dict.fromkeys(booleans, "0")
    return replace(
        _BASE_DRIVE,
        booleans=_BASE_DRIVE.booleans | set(booleans),
        numbers=_BASE_DRIVE.numbers.union(numbers),
        texts=_BASE_DRIVE.texts.union(texts),
        defaults={**_BASE_DRIVE.defaults, **extra},
    )


_EFIDISK = Properties(
    default_key="file",
    booleans=frozenset({"pre-enrolled-keys"}),
    texts=frozenset({"format", "import-from", "size"}),
    aliases={"volume": "file"},
    defaults={"efitype": "2m", "pre-enrolled-keys": "0", "ms-cert": "2011"},
    device=True,
)

_ROOTFS = Properties(
    default_key="volume",
    booleans=frozenset({"acl", "quota", "ro", "shared", "replicate"}),
    sets=frozenset({"mountoptions"}),
    texts=frozenset({"idmap", "size"}),
    defaults={"quota": "0", "ro": "0", "shared": "0", "replicate": "1"},
    device=True,
)

_MOUNT = replace(
    _ROOTFS,
    booleans=_ROOTFS.booleans | {"backup", "keepattrs"},
    texts=_ROOTFS.texts | {"mp"},
    defaults={**_ROOTFS.defaults, "backup": "0", "keepattrs": "0"},
)

QEMU: Mapping[str, Option] = {
    "acpi": _flag(True),
    "affinity": Scalar("cpus"),
    "agent": Properties(
        default_key="enabled",
        booleans=frozenset({"enabled", "freeze-fs", "fstrim_cloned_disks"}),
        aliases={"freeze-fs-on-backup": "freeze-fs", "guest-fsfreeze": "freeze-fs"},
        defaults={"enabled": "0", "freeze-fs": "1", "fstrim_cloned_disks": "0", "type": "virtio"},
    ),
    "allow-ksm": _flag(True),
    "amd-sev": Properties(
        default_key="type",
        booleans=frozenset({"no-debug", "no-key-sharing", "allow-smt", "kernel-hashes"}),
        defaults={"no-debug": "0", "no-key-sharing": "0", "allow-smt": "1", "kernel-hashes": "0"},
        device=True,
    ),
    "arch": _word(),
    "args": _word(),
    "audio0": Properties(texts=frozenset({"device"}), defaults={"driver": "spice"}, device=True),
    "autostart": _flag(),
    "balloon": _count(),
    "bios": _word("seabios"),
    "boot": Scalar("boot"),
    "bootdisk": _word(),
    "cicustom": Properties(texts=frozenset({"meta", "network", "user", "vendor"})),
    "cipassword": _word(),
    "citype": _word(),
    "ciupgrade": _flag(True),
    "ciuser": _word(),
    "cores": _count(1),
    "cpu": Properties(
        default_key="cputype",
        booleans=frozenset({"hidden"}),
        numbers=frozenset({"guest-phys-bits", "level"}),
        sets=frozenset({"flags"}),
        texts=frozenset({"hv-vendor-id", "phys-bits", "reported-model"}),
        defaults={"cputype": "kvm64", "hidden": "0"},
        initial={"cputype": "kvm64"},
    ),
    "cpulimit": Scalar("number", 0),
    "cpuunits": Scalar("weight", 100),
    "description": Scalar("description", ""),
    "efidisk0": _EFIDISK,
    "freeze": _flag(),
    "hookscript": _word(),
    "hostpci[n]": Properties(
        default_key="host",
        booleans=frozenset({"rombar", "pcie", "x-vga", "legacy-igd"}),
        texts=frozenset({"device-id", "mapping", "mdev", "romfile", "sub-device-id", "sub-vendor-id", "vendor-id"}),
        defaults={"rombar": "1", "pcie": "0", "x-vga": "0", "legacy-igd": "0", "driver": "vfio"},
        excludes={"host": ("mapping",), "mapping": ("host",)},
        device=True,
    ),
    "hotplug": Scalar("hotplug", DEFAULT_HOTPLUG),
    "hugepages": _word(),
    "ide[n]": _drive("ssd", texts=("model", "wwn")),
    "intel-tdx": Properties(
        default_key="type",
        booleans=frozenset({"attestation"}),
        numbers=frozenset({"vsock-cid", "vsock-port"}),
        defaults={"attestation": "1", "vsock-cid": "2", "vsock-port": "4050"},
        device=True,
    ),
    "ipconfig[n]": _IPCONFIG,
    "ivshmem": Properties(numbers=frozenset({"size"}), texts=frozenset({"name"}), device=True),
    "keephugepages": _flag(),
    "keyboard": _word(),
    "kvm": _flag(True),
    "localtime": _flag(None),
    "lock": _word(),
    "machine": Properties(
        default_key="type",
        booleans=frozenset({"enable-s3", "enable-s4"}),
        numbers=frozenset({"aw-bits"}),
        texts=frozenset({"viommu"}),
    ),
    "memory": Scalar("memory", 512),
    "migrate_downtime": Scalar("number", 0.1),
    "migrate_speed": _count(0),
    "name": _word(),
    "nameserver": _WORDS,
    "net[n]": _NET,
    "numa": _flag(),
    "numa[n]": Properties(
        numbers=frozenset({"memory"}), sets=frozenset({"cpus", "hostnodes"}), texts=frozenset({"policy"}), device=True
    ),
    "onboot": _flag(),
    "ostype": _word("other"),
    "parallel[n]": _word(),
    "protection": _flag(),
    "reboot": _flag(True),
    "rng0": Properties(
        default_key="source",
        numbers=frozenset({"max_bytes", "period"}),
        defaults={"max_bytes": "1024", "period": "1000"},
        device=True,
    ),
    "sata[n]": _drive("ssd", texts=("wwn",)),
    "scsi[n]": _drive("iothread", "ro", "scsiblock", "ssd", numbers=("queues",), texts=("product", "vendor", "wwn")),
    "scsihw": _word("lsi"),
    "searchdomain": _WORDS,
    "serial[n]": _word(),
    "shares": _count(1000),
    "smbios1": Properties(
        booleans=frozenset({"base64"}),
        folded=frozenset({"uuid"}),
        texts=frozenset({"family", "manufacturer", "product", "serial", "sku", "version"}),
        defaults={"base64": "0"},
    ),
    "smp": _count(1),
    "sockets": _count(1),
    "spice_enhancements": Properties(
        booleans=frozenset({"foldersharing"}),
        switches={"videostreaming": ("all", "off")},
        defaults={"foldersharing": "0", "videostreaming": "off"},
    ),
    "sshkeys": Scalar("ssh keys", ()),
    "startdate": _word("now"),
    "startup": Properties(default_key="order", numbers=frozenset({"order", "up", "down"})),
    "tablet": _flag(True),
    "tags": Scalar("tags", ()),
    "tdf": _flag(),
    "template": _flag(),
    "tpmstate0": Properties(
        default_key="file",
        texts=frozenset({"format", "import-from", "size"}),
        aliases={"volume": "file"},
        defaults={"version": "v1.2"},
        device=True,
    ),
    "unused[n]": Properties(default_key="file", aliases={"volume": "file"}, device=True),
    "usb[n]": Properties(
        default_key="host",
        booleans=frozenset({"usb3"}),
        folded=frozenset({"host"}),
        texts=frozenset({"mapping"}),
        defaults={"usb3": "0"},
        excludes={"host": ("mapping",), "mapping": ("host",)},
        device=True,
    ),
    "vcpus": _count(),
    "vga": Properties(
        default_key="type", numbers=frozenset({"memory"}), texts=frozenset({"clipboard"}), defaults={"type": "std"}
    ),
    "virtio[n]": _drive("iothread", "ro"),
    "virtiofs[n]": Properties(
        default_key="dirid",
        booleans=frozenset({"direct-io", "expose-acl", "expose-xattr"}),
        defaults={"cache": "auto", "direct-io": "0", "expose-acl": "0", "expose-xattr": "0"},
        device=True,
    ),
    "vmgenid": Scalar("folded"),
    "vmstatestorage": _word(),
    "watchdog": Properties(
        default_key="model", texts=frozenset({"action"}), defaults={"model": "i6300esb"}, device=True
    ),
}

LXC: Mapping[str, Option] = {
    "arch": _word("amd64"),
    "cmode": _word("tty"),
    "console": _flag(True),
    "cores": _count(),
    "cpulimit": Scalar("number", 0),
    "cpuunits": Scalar("weight", 100),
    "debug": _flag(),
    "description": Scalar("description", ""),
    "dev[n]": Properties(
        default_key="path",
        booleans=frozenset({"deny-write"}),
        numbers=frozenset({"uid", "gid"}),
        texts=frozenset({"mode"}),
        defaults={"deny-write": "0"},
        device=True,
    ),
    "entrypoint": _word("/sbin/init"),
    "env": Scalar("environment", ()),
    "features": Properties(
        booleans=frozenset({"force_rw_sys", "fuse", "keyctl", "mknod", "nesting"}),
        sets=frozenset({"mount"}),
        defaults=dict.fromkeys(("force_rw_sys", "fuse", "keyctl", "mknod", "nesting"), "0"),
    ),
    "hookscript": _word(),
    "hostname": _word(),
    "lock": _word(),
    "memory": Scalar("memory", 512),
    "mp[n]": _MOUNT,
    "nameserver": _WORDS,
    "net[n]": _LXC_NET,
    "onboot": _flag(),
    "ostype": _word(),
    "protection": _flag(),
    "rootfs": _ROOTFS,
    "searchdomain": _WORDS,
    "startup": Properties(default_key="order", numbers=frozenset({"order", "up", "down"})),
    "swap": _count(512),
    "tags": Scalar("tags", ()),
    "template": _flag(),
    "timezone": _word(),
    "tty": _count(2),
    "unprivileged": _flag(),
    "unused[n]": Properties(default_key="volume", device=True),
}

OPTIONS: Mapping[str, Mapping[str, Option]] = {"qemu": QEMU, "lxc": LXC}

# How many there may be of each indexed option.
LIMITS: Mapping[str, Mapping[str, int]] = {
    "qemu": {
        "hostpci": 16,
        "ide": 4,
        "ipconfig": 32,
        "net": 32,
        "numa": 8,
        "parallel": 3,
        "sata": 6,
        "scsi": 31,
        "serial": 4,
        "unused": 256,
        "usb": 14,
        "virtio": 16,
        "virtiofs": 10,
    },
    "lxc": {"dev": 256, "mp": 256, "net": 32, "unused": 256},
}

_DISKS = {
    "qemu": re.compile(r"^(ide|sata|scsi|virtio|efidisk|tpmstate)\d+$"),
    "lxc": re.compile(r"^(rootfs|mp\d+)$"),
}


def find_option(kind: str, key: str) -> Option | None:
    """Return what a key of the configuration of a guest of this kind holds; None where no such key is known."""
    table = OPTIONS[kind]
    if key in table:
        return table[key]
    match = re.fullmatch(r"(.*\D)(0|[1-9]\d*)", key)
    if match is None or int(match[2]) >= LIMITS[kind].get(match[1], 0):
        return None
    return table.get(f"{match[1]}[n]")


def check_spelling(name: str, value: object, more_keys: Collection[str] = ()) -> None:
    """Refuse the name of an option, or a key of its dictionary, that is not known but looks like one that is.

    What looks like nothing known is left to the server, for newer ones know more; so is the server's own text.

    :param more_keys: words of a module for what the option's own keys say.
    """
    options = [option for kind in OPTIONS if (option := find_option(kind, name)) is not None]
    if not options:
        _check_name(name)
    keys = [option.keys for option in options if isinstance(option, Properties)]
    known = frozenset(more_keys).union(*keys)
    for key in value if keys and isinstance(value, Mapping) else ():
        meant = slip(str(key), known)
        if meant is not None:
            raise Refused(f"{name} has no key '{key}'; did you mean {meant}?")


def _check_name(name: str) -> None:
    """Refuse the name of no option that looks like one of an option."""
    stem = name.rstrip("0123456789")
    known = {
        key.removesuffix("[n]").rstrip("0123456789"): key.replace("[n]", name[len(stem) :] or "0")
        for table in OPTIONS.values()
        for key in table
    }
    meant = slip(stem, known)
    if meant is not None:
        raise Refused(f"There is no option '{name}'; did you mean {known[meant]}?")


def properties_of(kind: str, key: str) -> Properties:
    """Return what a key of the configuration that holds properties is made of; TypeError for any other key."""
    option = find_option(kind, key)
    if not isinstance(option, Properties):
        raise TypeError(f"'{key}' holds no properties")
    return option


def is_disk(kind: str, key: str) -> bool:
    """Tell whether the key is a slot of a disk or drive."""
    return bool(_DISKS[kind].match(key)) and find_option(kind, key) is not None

# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which changes a running guest takes at once, and which wait for its next start.

Only for foretelling: after a write the server says itself what is pending. From qemu-server, PVE/QemuServer.pm
(vmconfig_hotplug_pending, vmconfig_update_net, vmconfig_update_disk, vmconfig_update_agent), and pve-container, PVE/LXC/Config.pm
(vmconfig_hotplug_pending).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .options import DEFAULT_HOTPLUG, READ, is_disk, properties_of
from .wire import parse_properties, words

# Settings of the guest's cloud-init drive; the server takes them at once, the drive is made anew at the next start.
CLOUDINIT = re.compile(r"^(ci\w+|sshkeys|nameserver|searchdomain|ipconfig\d+|name)$")

_QEMU_LIVE = frozenset(
    words(
        "description hookscript lock migrate_downtime migrate_speed name onboot protection shares startup tags vmstatestorage "
        "cpulimit cpuunits"
    )
)
_LXC_LIVE = frozenset(
    words("description onboot startup protection hostname hookscript cores tags lock cpulimit cpuunits memory swap")
)
_LXC_LIVE_REMOVALS = _LXC_LIVE - {"memory"}

# Options of a card and of a disk that take the device away and bring it back, or that wait for the next start.
_CARD = ("model", "macaddr", "queues", "mtu")
_DISK = ("aio", "discard", "iothread", "queues", "product", "cache", "ssd", "vendor", "ro")


def is_live(kind: str, key: str, present: str | None, new: str | None, config: Mapping[str, str]) -> bool:
    """Tell whether a running guest takes the change at once.

    :param present: what is in force, without what is pending. :param new: what is to come, None for removal.
    :param config: everything that is in force.
    """
    if present == new or (key.startswith("unused") and new is None):
        return True
    if kind == "lxc":
        return _lxc(key, present, new)
    if key in _QEMU_LIVE or CLOUDINIT.match(key):
        return True
    features = READ["hotplug"](config["hotplug"]) if "hotplug" in config else DEFAULT_HOTPLUG
    if is_disk(kind, key):
        return _qemu_disk(key, present, new, "disk" in features)
    if re.fullmatch(r"net\d+", key):
        return _qemu_net(present, new, "network" in features)
    rule = _QEMU_RULES.get(re.sub(r"\d+$", "", key))
    return rule is not None and rule(present, new, features, config)


def _lxc(key: str, present: str | None, new: str | None) -> bool:
    if new is None:
        # The server looks for cards of one digit only.
        return key in _LXC_LIVE_REMOVALS or bool(re.fullmatch(r"net\d", key))
    if re.fullmatch(r"(mp|dev)\d+", key):
        return present is None
    return key in _LXC_LIVE or bool(re.fullmatch(r"net\d+", key))


def _keys(key: str, text: str | None) -> dict[str, str]:
    return {} if text is None else parse_properties(properties_of("qemu", key), text)


def _qemu_net(present: str | None, new: str | None, hotplug: bool) -> bool:
    if present is None or new is None:
        return hotplug
    old, now = _keys("net0", present), _keys("net0", new)
    # A card without a bridge is the server's own network; that one is not changed in place.
    same = all(old.get(name) == now.get(name) for name in _CARD) and bool(old.get("bridge")) and bool(now.get("bridge"))
    return same or hotplug


def _qemu_disk(key: str, present: str | None, new: str | None, hotplug: bool) -> bool:
    pluggable = hotplug and bool(re.match(r"scsi|virtio", key))
    if key in ("efidisk0", "tpmstate0"):
        return False
    if present is None or new is None:
        return pluggable
    old, now = _keys(key, present), _keys(key, new)
    if old.get("media") == "cdrom":
        return True
    if old.get("file") != now.get("file"):
        return pluggable
    return all(old.get(name) == now.get(name) for name in _DISK)


_Rule = Callable[["str | None", "str | None", "tuple[str, ...]", Mapping[str, str]], bool]


def _hotplug(present: str | None, new: str | None, _features: tuple[str, ...], _config: Mapping[str, str]) -> bool:
    return not re.search("cpu|memory", f"{present or ''} {new or ''}")


def _balloon(present: str | None, new: str | None, _features: tuple[str, ...], _config: Mapping[str, str]) -> bool:
    return (present != "0") == (new != "0")


def _usb(_present: str | None, _new: str | None, features: tuple[str, ...], config: Mapping[str, str]) -> bool:
    return "usb" in features and config.get("ostype") in ("l26", "win8", "win10", "win11")


def _agent(present: str | None, new: str | None, _features: tuple[str, ...], _config: Mapping[str, str]) -> bool:
    if present is None or new is None:
        return False
    old, now = _keys("agent", present), _keys("agent", new)
    return {**old, "fstrim_cloned_disks": ""} == {**now, "fstrim_cloned_disks": ""}


_QEMU_RULES: Mapping[str, _Rule] = {
    "hotplug": _hotplug,
    "balloon": _balloon,
    "usb": _usb,
    "agent": _agent,
    "tablet": lambda _present, _new, features, _config: "usb" in features,
    "vcpus": lambda _present, _new, features, _config: "cpu" in features,
    "memory": lambda _present, _new, features, _config: "memory" in features,
}

# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running VM takes at once, and what has to wait.

Source: qemu-server, PVE/QemuServer.pm (vmconfig_hotplug_pending, vmconfig_update_net, vmconfig_update_disk, vmconfig_update_agent).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import qemu_disks, qemu_pending
from .clock import Sleep, Steps
from .guests import is_cdrom, is_cloudinit, is_drive
from .http import ApiError, die
from .model import Config, Guest
from .propstring import NET, parse, parse_boolean, parse_drive, split_list
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call

_FAST = "description hookscript lock migrate_downtime migrate_speed name onboot protection shares startup tags vmstatestorage"
_CLOUDINIT = "cicustom cipassword citype ciupgrade ciuser nameserver searchdomain sshkeys"
FAST = frozenset(_FAST.split())
CLOUDINIT = frozenset(_CLOUDINIT.split())
# Keys of a drive whose change waits for a cold start.
COLD_KEYS = ("aio", "discard", "iothread", "queues", "product", "cache", "ssd", "vendor", "ro")
COLD_NET = ("model", "macaddr", "queues", "mtu")


class _Wait(Exception):
    """It stays pending."""


def features(config: Config) -> frozenset[str]:
    """The hotplug features that are on."""
    text = config.get("hotplug", "1")
    if text == "0":
        return frozenset()
    return frozenset(["network", "disk", "usb"] if text == "1" else split_list(text))


def is_cloudinit_option(option: str) -> bool:
    """Options of cloud-init itself; like the fast ones they are always applied (ipconfigN too)."""
    return option in CLOUDINIT or re.fullmatch(r"ipconfig\d+", option) is not None


def record(guest: Guest, option: str, old: str | None, new: str | None) -> None:
    """Note what the cloud-init image was made with (cloudinit_record_changed)."""
    if not (is_cloudinit_option(option) or option == "name" or re.fullmatch(r"net\d+", option)):
        return
    state = guest.cloudinit
    recorded = state.get(option)
    added = set(split_list(state.pop("added", "")))
    if new is not None:
        if recorded is not None:
            if new == recorded:
                del state[option]
                added.discard(option)
        elif option not in added:
            if old is not None:
                state[option] = old
            else:
                added.add(option)
    elif old is not None and recorded is None:
        if option in added:
            added.discard(option)
        else:
            state[option] = old
    if added:
        state["added"] = ",".join(sorted(added))


def apply(call: Call, guest: Guest, modified: set[str], task: Task | None) -> Steps[dict[str, str]]:
    """Apply what can be. Returns the errors by option; those stay pending."""
    errors: dict[str, str] = {}
    config = guest.config
    for option in sorted(guest.pending):
        if option in FAST:
            value = guest.pending.pop(option)
            record(guest, option, config.get(option), value)
            config[option] = value
    on = features(config)
    for option in sorted(guest.pending_delete):
        if option not in modified:
            continue
        try:
            yield from _unplug(call, guest, option, on, force=guest.pending_delete[option] == 2)
        except _Wait:
            continue
        except ApiError as error:
            errors[option] = f"hotplug problem - {error.text}\n"
            continue
        record(guest, option, config.pop(option, None), None)
        guest.pending_delete.pop(option, None)
    late: list[str] = []
    for option in sorted(guest.pending):
        if option not in modified:
            continue
        value = guest.pending[option]
        if is_drive(option) and is_cloudinit(parse_drive(option, value)):
            late.append(option)
            continue
        yield from _try(call, guest, option, value, on, errors)
    for option in late:
        yield from qemu_disks.regenerate(call.cluster, guest, task)
        yield from _try(call, guest, option, guest.pending[option], on, errors)
    call.cluster.write(guest)
    if "cloudinit" in on and guest.cloudinit:
        yield from qemu_disks.regenerate(call.cluster, guest, task)
    return errors


def _try(call: Call, guest: Guest, option: str, value: str, on: frozenset[str], errors: dict[str, str]) -> Steps[None]:
    try:
        yield from _plug(call, guest, option, value, on)
    except _Wait:
        return
    except ApiError as error:
        errors[option] = f"hotplug problem - {error.text}\n"
        return
    record(guest, option, guest.config.get(option), value)
    guest.config[option] = value
    guest.pending.pop(option, None)


def _unplug(call: Call, guest: Guest, option: str, on: frozenset[str], *, force: bool) -> Steps[None]:
    config, durations = guest.config, call.cluster.durations
    if option in FAST or is_cloudinit_option(option) or option in ("cpuunits", "cpulimit"):
        return
    if option == "hotplug":
        if re.search("cpu|memory", config.get("hotplug", "")):
            raise _Wait
    elif option == "tablet":
        _need("usb", on)
    elif re.fullmatch(r"usb\d+", option):
        _need_usb(guest, on)
    elif option == "vcpus":
        _need("cpu", on)
    elif option == "balloon":
        if config.get("balloon") == "0":
            raise _Wait
    elif re.fullmatch(r"net\d+", option):
        _need("network", on)
        _refuse(guest, option)
        yield Sleep(durations.hotplug)
    elif is_drive(option):
        if re.match("efidisk|ide|sata|tpmstate", option):
            raise _Wait
        _need("disk", on)
        _refuse(guest, option)
        yield Sleep(durations.hotplug)
        drive = parse_drive(option, config[option])
        yield from qemu_pending.detach(call.cluster, guest, drive, force=force, authid=call.authid)
    elif option == "memory":
        _need("memory", on)
    else:
        raise _Wait


def _need(feature: str, on: frozenset[str]) -> None:
    if feature not in on:
        raise _Wait


def _need_usb(guest: Guest, on: frozenset[str]) -> None:
    ostype = guest.config.get("ostype", "other")
    if "usb" not in on or not (ostype == "l26" or re.fullmatch(r"win(?:8|10|11)", ostype)):
        raise _Wait


def _refuse(guest: Guest, option: str) -> None:
    """A guest that does not let a device go."""
    if option in guest.behaviour.hotplug_errors:
        raise die(guest.behaviour.hotplug_errors[option])


def _plug(call: Call, guest: Guest, option: str, value: str, on: frozenset[str]) -> Steps[None]:
    config = guest.config
    if is_cloudinit_option(option) or option in ("cpuunits", "cpulimit"):
        return
    if option == "hotplug":
        if re.search("cpu|memory", value + config.get("hotplug", "")):
            raise _Wait
    elif option == "tablet":
        _need("usb", on)
    elif re.fullmatch(r"usb\d+", option):
        _need_usb(guest, on)
        _refuse(guest, option)
    elif option == "vcpus":
        _need("cpu", on)
        _refuse(guest, option)
    elif option == "balloon":
        if (config.get("balloon") == "0") != (value == "0"):
            raise _Wait
    elif re.fullmatch(r"net\d+", option):
        yield from _update_net(call, guest, option, value, on)
    elif is_drive(option):
        if option in ("efidisk0", "tpmstate0"):
            raise _Wait
        yield from _update_disk(call, guest, option, value, on)
    elif option == "memory":
        _need("memory", on)
        _refuse(guest, option)
    elif option == "agent":
        _update_agent(config, value)
    else:
        raise _Wait


def _update_net(call: Call, guest: Guest, option: str, value: str, on: frozenset[str]) -> Steps[None]:
    durations, old_text = call.cluster.durations, guest.config.get(option)
    new = parse(NET, value)
    if old_text is not None:
        old = parse(NET, old_text)
        changed = any(old.get(key) != new.get(key) for key in COLD_NET)
        if not changed and old.get("bridge") and new.get("bridge"):
            _bridge_exists(call, guest, new["bridge"])
            return
        _need("network", on)
        _refuse(guest, option)
        yield Sleep(durations.hotplug)
    _need("network", on)
    _refuse(guest, option)
    if new.get("bridge"):
        _bridge_exists(call, guest, new["bridge"])
    yield Sleep(durations.hotplug)


def _bridge_exists(call: Call, guest: Guest, bridge: str) -> None:
    if bridge not in call.cluster.nodes[guest.node].bridges:
        raise die(f"bridge '{bridge}' does not exist")


def _update_disk(call: Call, guest: Guest, option: str, value: str, on: frozenset[str]) -> Steps[None]:
    drive, old_text = parse_drive(option, value), guest.config.get(option)
    if old_text is not None:
        old = parse_drive(option, old_text)
        if drive.get("media", "disk") != old.get("media", "disk"):
            raise die("unable to change media type")
        if is_cdrom(old):
            if drive["file"] == "none" and is_cloudinit(old):
                yield from qemu_pending.register_unused(call.cluster, guest, old)
            return
        if drive["file"] == old["file"]:
            if any(drive.get(key) != old.get(key) for key in COLD_KEYS):
                raise _Wait
            return
        _need("disk", on)
        _refuse(guest, option)
        yield Sleep(call.cluster.durations.hotplug)
        yield from qemu_pending.register_unused(call.cluster, guest, old)
    if "disk" not in on or re.match("ide|sata", option):
        raise _Wait
    _refuse(guest, option)
    yield Sleep(call.cluster.durations.hotplug)


def _update_agent(config: Config, value: str) -> None:
    """Only fstrim_cloned_disks can change."""
    if "agent" not in config:
        raise _Wait

    def keys(text: str) -> dict[str, str]:
        found = {}
        for part in text.split(","):
            key, equals, what = part.partition("=")
            found[key if equals else "enabled"] = parse_boolean(what if equals else part)
        found.pop("fstrim_cloned_disks", None)
        return found

    if keys(config["agent"]) != keys(value):
        raise _Wait

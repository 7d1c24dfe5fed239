# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's configuration: reading it, and writing it with everything that the server rewrites.

Sources: qemu-server, PVE/API2/Qemu.pm (vm_config, vm_pending, update_vm_api); pve-guest-common, PVE/AbstractConfig.pm and
PVE/GuestHelpers.pm (config_with_pending_array, get_unique_tags). What is applied at once to a running VM is in qemu_hotplug.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from . import qemu_disks, qemu_hotplug, qemu_pending
from .clock import Interrupted, Steps
from .guests import is_cdrom, is_cloudinit, is_drive, is_unused
from .http import ApiError, bad_parameters, die
from .model import Config, Guest
from .propstring import NET, parse, parse_drive, show, split_list
from .qemu_disks import CHECKSUM, boot_devices, check_lock
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

MASK = "**********"
CRYPTED = re.compile(r"^\$(?:[156]|2[ay])(\$.+){2}")
# Keys of the request that are no options of the VM.
CONTROL = (
    "node", "vmid", "digest", "background_delay", "skip_cloud_init", "import-working-storage", "skiplock", "delete", "revert",
    "force",
)  # fmt: skip
CREATE_CONTROL = (
    "node", "vmid", "archive", "bwlimit", "force", "pool", "start", "ha-managed", "storage", "unique", "live-restore",
    "import-working-storage",
)  # fmt: skip
WINDOWS = re.compile(r"w(?:xp|2k|2k3|2k8|vista|in7|in8|in10|in11)")
# Set in the file by the server itself; `delete` knows them too.
INTERNAL = ("parent", "vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu", "meta", "lock", "template")


def typed(cluster: Cluster, kind: str, config: Mapping[str, str]) -> dict[str, Any]:
    """A configuration as JSON: booleans and integers as numbers, everything else as text."""
    known = cluster.schema.endpoint("PUT", f"/nodes/{{node}}/{kind}/{{vmid}}/config").parameters
    values: dict[str, Any] = {}
    for key, value in config.items():
        number = key in ("snaptime", "template") or known.get(key, {}).get("type") in ("integer", "boolean")
        values[key] = int(value) if number and value.lstrip("-").isdigit() else value
    return values


def get(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/qemu/{vmid}/config."""
    guest = call.cluster.guest("qemu", call.node, call.vmid)
    snapshot, current = call.params.get("snapshot"), bool(call.params.get("current"))
    if snapshot and current:
        text = "cannot use 'snapshot' parameter with 'current'"
        raise bad_parameters({"snapshot": text, "current": "cannot use 'snapshot' parameter with 'current'"})
    if snapshot and snapshot not in guest.snapshots:
        raise die(f"snapshot '{snapshot}' does not exist")
    config = guest.snapshots[snapshot] if snapshot else guest.config if current else guest.effective()
    row = typed(call.cluster, "qemu", config)
    if "cipassword" in row:
        row["cipassword"] = MASK
    row["digest"] = guest.digest()
    return row


def pending_rows(cluster: Cluster, guest: Guest) -> list[dict[str, Any]]:
    """What is set, what is pending, what waits to be deleted."""
    rows: list[dict[str, Any]] = []
    pending = typed(cluster, guest.kind, guest.pending)
    for key, value in typed(cluster, guest.kind, guest.config).items():
        row = {"key": key, "value": value}
        if key in pending:
            row["pending"] = pending.pop(key)
        if key in guest.pending_delete:
            row["delete"] = guest.pending_delete[key]
        rows.append(row)
    rows.append({"key": "digest", "value": guest.digest()})
    rows += [{"key": key, "pending": value} for key, value in pending.items()]
    return rows


def get_pending(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/qemu/{vmid}/pending."""
    rows = pending_rows(call.cluster, call.cluster.guest("qemu", call.node, call.vmid))
    for row in rows:
        if row["key"] == "cipassword":
            row |= {"value": MASK} if "value" in row else {}
            row |= {"pending": f"{MASK} "} if "pending" in row else {}
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Checks that do not look at the configuration


def texts(call: Call, control: tuple[str, ...]) -> Config:
    """The options of a request as the texts that the file would hold."""
    known = call.cluster.schema.endpoint("PUT", "/nodes/{node}/qemu/{vmid}/config").parameters
    values: Config = {}
    for key, value in call.params.items():
        if key in control:
            continue
        text = value if isinstance(value, str) else str(call.raw[key]) if isinstance(value, float) else str(value)
        if known.get(key, {}).get("type") == "string" and not known[key].get("format"):
            text = re.sub(r'^"(.*)"$', r"\1", text)
        values[key] = text
    if "cdrom" in values:
        value = values.pop("cdrom")
        values["ide2"] = value if "media=" in value else f"{value},media=cdrom"
    if "cpuunits" in values:
        # cgroup v2
        values["cpuunits"] = str(max(1, min(10000, int(values["cpuunits"]))))
    if "description" in values:
        values["description"] = values["description"].rstrip()
    if "sshkeys" in values:
        check_ssh_keys(unquote(values["sshkeys"]))
    return values


def check_ssh_keys(text: str) -> None:
    """500 unless every line is a public key, as ssh-keygen would say (validate_ssh_public_keys)."""
    for line in text.split("\n"):
        fields = line.split()
        at = next((number for number, part in enumerate(fields) if part.startswith(("ssh-", "ecdsa-", "sk-"))), None)
        if fields and (at is None or len(fields) < at + 2 or not _is_key(fields[at], fields[at + 1])):
            raise die("SSH public key validation error")


def _is_key(kind: str, text: str) -> bool:
    """Whether a base64 text is a key of this kind: fields with their lengths before them, the first one its kind."""
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    parts: list[bytes] = []
    while len(blob) >= 4:
        end = 4 + int.from_bytes(blob[:4], "big")
        parts.append(blob[4:end])
        if end > len(blob):
            return False
        blob = blob[end:]
    return not blob and len(parts) > 1 and parts[0] == kind.encode()


def prepare(call: Call, values: Config, default_storage: str | None, pool: str | None, *, creating: bool) -> None:
    """Permissions and values of options; changes `values` to what will be written. Raises ApiError."""
    cluster, access, authid, vmid = call.cluster, call.cluster.access, call.authid, call.vmid
    if creating:
        _check_drives_access(call, values, default_storage)
        access.check_vm_options(authid, vmid, pool, sorted(values))
        _check_devices(call, values, pool)
        _check_bridges(call, values)
    for option in sorted(values):
        if is_drive(option):
            values[option] = qemu_disks.check_drive(cluster, option, values[option])
    for option in sorted(values):
        if re.fullmatch(r"net\d+", option):
            net = parse(NET, values[option])
            net.setdefault("macaddr", cluster.new_mac())
            values[option] = show(NET, net)
        elif option == "vmgenid" and values[option] == "1":
            values[option] = cluster.new_uuid()
        elif option == "hookscript":
            _check_hookscript(call, values[option])
    if not creating:
        access.check_vm_options(authid, vmid, pool, sorted(values))
        _check_drives_access(call, values, default_storage)
        _check_bridges(call, values)


def _check_hookscript(call: Call, volid: str) -> None:
    volume = call.cluster.storages.find(call.node, volid) if ":" in volid else None
    if ":snippets/" not in volid:
        raise bad_parameters({"hookscript": f"'{volid}' is not in the snippets directory\n"})
    if volume is None:
        raise bad_parameters({"hookscript": f"script '{volid}' does not exist\n"})


def _check_drives_access(call: Call, values: Config, default_storage: str | None) -> None:
    for option in sorted(values):
        if is_drive(option):
            qemu_disks.check_access(call, option, values[option], default_storage)
    if "vmstatestorage" in values:
        call.check(f"/storage/{values['vmstatestorage']}", "Datastore.AllocateSpace")


def _check_bridges(call: Call, values: Config) -> None:
    for option in sorted(values):
        if re.fullmatch(r"net\d+", option):
            net = parse(NET, values[option])
            if "bridge" in net:
                call.cluster.access.check_bridge(call.authid, net["bridge"], net.get("tag"), net.get("trunks", ""))


def _check_devices(call: Call, values: Config, pool: str | None = None) -> None:
    for option in sorted(values):
        if re.fullmatch(r"(?:serial|usb|hostpci|virtiofs)\d+|rng0", option):
            _check_device(call, option, values[option], pool)


def _check_device(call: Call, option: str, value: str, pool: str | None = None) -> None:
    device = {key: text for key, equals, text in (part.partition("=") for part in value.split(",")) if equals}
    if not option.startswith("serial") and "=" not in value.split(",")[0]:
        default = {"rng0": "source"}.get(option, "dirid" if option.startswith("virtiofs") else "host")
        device[default] = value.split(",")[0]
    call.cluster.access.check_vm_device(call.authid, call.vmid, pool, option, device, value)


def _check_drive_permission(call: Call, option: str, value: str) -> None:
    drive = parse_drive(option, value)
    access, vmid = call.cluster.access, call.vmid
    if call.root:
        return
    if is_cloudinit(drive):
        access.check_guest(call.authid, vmid, None, ["VM.Config.Cloudinit", "VM.Config.CDROM"])
    else:
        access.check_vm_drive(call.authid, vmid, None, option, is_cdrom(drive, without_cloudinit=True))


def unique_tags(cluster: Cluster, text: str) -> str:
    """Tags as they are stored: in lower case, sorted, each once, unless the datacenter has another style."""
    sensitive, ordered = cluster.tag_style.get("case-sensitive") == "1", cluster.tag_style.get("ordering") == "config"
    tags = [tag if sensitive else tag.lower() for tag in split_list(text)]
    return ";".join(dict.fromkeys(tags if ordered else sorted(tags)))


def crypt(cluster: Cluster, text: str) -> str:
    """A password as encrypt_pw stores it; the hash is made up, since nothing checks it."""
    letters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    salt, digest = ("".join(cluster.random.choice(letters) for _rest in range(length)) for length in (8, 43))
    return f"$5${salt}${digest}"


def option_exists(cluster: Cluster, option: str) -> bool:
    """Whether a VM has this option."""
    known = cluster.schema.endpoint("PUT", "/nodes/{node}/qemu/{vmid}/config").parameters
    return (option in known and option not in CONTROL) or is_unused(option) or option in INTERNAL


# ---------------------------------------------------------------------------------------------------------------------
# Writing


class Update:
    """One PUT or POST of a configuration: checked before the fork, and again with the lock held."""

    def __init__(self, call: Call, params: Mapping[str, Any] | None = None) -> None:
        self.call = call
        self.cluster = call.cluster
        params = call.params if params is None else params
        self.digest = params.get("digest") or ""
        self.skiplock = bool(params.get("skiplock"))
        call.root_only("skiplock")
        self.force = bool(params.get("force"))
        shown = {
            key: "<hidden>" if key == "cipassword" else _plain(call.raw.get(key, value))
            for key, value in sorted(params.items())
            if key not in ("node", "vmid", "digest", "background_delay", "skip_cloud_init", "import-working-storage")
        }
        self.summary = f"update VM {call.vmid}: " + " ".join(f"-{key} {value}" for key, value in shown.items())
        self.values = texts(call, CONTROL)
        deletes, reverts = params.get("delete") or "", params.get("revert") or ""
        if not deletes and not reverts and not self.values:
            raise die("no options specified")
        self.revert = self._reverts(reverts)
        self.delete = self._deletes(deletes)
        access = self.cluster.access
        for option in sorted(self.values):
            if is_drive(option):
                self.values[option] = qemu_disks.check_drive(self.cluster, option, self.values[option])
        access.check_vm_options(call.authid, call.vmid, None, self.delete)
        prepare(call, self.values, None, None, creating=False)

    def _reverts(self, text: str) -> list[str]:
        for option in split_list(text):
            if not option_exists(self.cluster, option):
                raise bad_parameters({"revert": f"unknown option '{option}'"})
            if option in self.values:
                problem = f"you can't use '-{option}' and -revert {option}' at the same time"
                raise bad_parameters({"delete": problem})
        return split_list(text)

    def _deletes(self, text: str) -> list[str]:
        found = []
        for name in split_list(text):
            option = "ide2" if name == "cdrom" else name
            if option in self.values:
                raise bad_parameters({"delete": f"you can't use '-{option}' and -delete {option}' at the same time"})
            if option in self.revert:
                raise bad_parameters(
                    {"revert": f"you can't use '-delete {option}' and -revert {option}' at the same time"}
                )
            if not option_exists(self.cluster, option):
                raise bad_parameters({"delete": f"unknown option '{option}'"})
            found.append(option)
        return found

    def check(self, *, final: bool) -> Guest:
        """What looks at the configuration; `final` with the lock held. Raises ApiError."""
        guest = self.cluster.guest("qemu", self.call.node, self.call.vmid)
        if self.digest and self.digest != guest.digest():
            raise die(CHECKSUM)
        suspended = "vmstate" in self.delete and guest.config.get("lock") == "suspended"
        if suspended and final:
            self.delete.append("lock")
        if "vmstate" in self.delete and final:
            self.delete += [key for key in ("runningmachine", "runningcpu") if key in guest.config]
        if not self.skiplock and not suspended:
            check_lock(guest)
        for option in self.revert:
            if option in guest.config:
                self.values[option] = guest.config[option]
            elif option in guest.pending and final:
                self.delete.append(option)
        if "memory" in self.values or "balloon" in self.values:
            memory = self.values.get("memory") or guest.pending.get("memory") or guest.config.get("memory", "512")
            balloon = self.values.get("balloon") or guest.pending.get("balloon") or guest.config.get("balloon") or "0"
            if int(balloon) > int(memory.split(",")[0].removeprefix("current=")):
                raise die("balloon value too large (must be smaller than assigned memory)")
        return guest

    def run(self, task: Task | None) -> Steps[None]:
        """The change, with the lock held: each option by itself, then what can be applied. Raises ApiError."""
        with (yield from self.cluster.lock_config(self.call.node, self.call.vmid, task.log if task else None)):
            yield from self.locked(task)

    def locked(self, task: Task | None) -> Steps[None]:
        """The change itself. Raises ApiError."""
        cluster = self.cluster
        guest = self.check(final=True)
        if task is not None:
            task.log(self.summary)
        # The first write fails without quorum.
        cluster.write(guest)
        order = boot_devices(guest.config)
        modified: set[str] = set()
        for option in list(dict.fromkeys(self.delete)):
            yield from self._remove(guest, option, order, modified, task)
        for option in sorted(self.values):
            yield from self._set(guest, option, self.values[option], order, modified, task)
        _forget_unused_in_use(guest)
        _cleanup(guest)
        if not guest.pending and not guest.pending_delete:
            return
        if guest.running:
            errors = yield from qemu_hotplug.apply(self.call, guest, modified, task)
        else:
            errors = yield from qemu_pending.apply_cold(cluster, guest, task, cloudinit=True, authid=self.call.authid)
        _forget_unused_in_use(guest)
        cluster.write(guest)
        if errors:
            raise bad_parameters(errors)

    def _remove(
        self, guest: Guest, option: str, order: list[str], modified: set[str], task: Task | None
    ) -> Steps[None]:
        call = self.call
        value = guest.config.get(option, guest.pending.get(option))
        if value is None:
            if task is not None:
                task.log(f"cannot delete '{option}' - not set in current configuration!")
            return
        modified.add(option)
        pending = guest.pending.pop(option, None)
        if option in order:
            order.remove(option)
            guest.pending["boot"] = _show_order(order)
            modified.add("boot")
        if is_unused(option):
            self._protected(guest, f"can't remove unused disk '{value}'")
            self.cluster.access.check_vm_drive(call.authid, guest.vmid, None, option, False)
            yield from qemu_pending.destroy_unused(self.cluster, guest, option, call.authid)
            return
        if option == "vmstate":
            self._protected(guest, f"can't remove vmstate '{value}'")
            yield from self.cluster.storages.free(guest.node, value)
            guest.config.pop(option, None)
            return
        if is_drive(option):
            self._protected(guest, f"can't remove drive '{option}'")
            _check_drive_permission(call, option, value)
            if pending is not None:
                yield from qemu_pending.register_unused(self.cluster, guest, parse_drive(option, pending))
        elif re.fullmatch(r"serial\d+", option):
            if value != "socket" and not call.root:
                raise die(f"only root can delete '{option}' config for real devices")
            self.cluster.access.check_guest(call.authid, guest.vmid, None, ["VM.Config.HWType"])
        elif re.fullmatch(r"(?:usb|hostpci|virtiofs)\d+|rng0", option):
            _check_device(call, option, value)
        elif option == "tags":
            self.cluster.access.check_tags(call.authid, guest.vmid, value, "")
            guest.config.pop("tags", None)
            return
        elif re.fullmatch(r"net\d+", option) and option in guest.config:
            _check_bridges(call, {option: guest.config[option]})
        guest.pending_delete[option] = 2 if self.force else 1

    def _protected(self, guest: Guest, text: str) -> None:
        if guest.config.get("protection") == "1":
            raise die(f"{text} - protection mode enabled")

    def _set(
        self, guest: Guest, option: str, value: str, order: list[str], modified: set[str], task: Task | None
    ) -> Steps[None]:
        call, cluster = self.call, self.cluster
        modified.add(option)
        if guest.pending.get(option) == value:
            return
        old = guest.config.get(option)
        if is_drive(option):
            if old is not None:
                _check_drive_permission(call, option, old)
            _check_drive_permission(call, option, value)
            if option in guest.pending:
                waiting = parse_drive(option, guest.pending[option])
                yield from qemu_pending.register_unused(cluster, guest, waiting)
            made: list[str] = []
            try:
                guest.pending[option] = yield from qemu_disks.create(cluster, guest, option, value, task, made)
            except (ApiError, Interrupted):
                for volid in made:
                    yield from cluster.storages.free(guest.node, volid)
                raise
            if order and option not in order and is_cdrom(parse_drive(option, value), without_cloudinit=True):
                order.append(option)
                guest.pending["boot"] = _show_order(order)
                modified.add("boot")
        elif re.fullmatch(r"serial\d+", option):
            if not (old in (None, "socket") and value == "socket") and not call.root:
                raise die(f"only root can modify '{option}' config for real devices")
            cluster.access.check_guest(call.authid, guest.vmid, None, ["VM.Config.HWType"])
            guest.pending[option] = value
        elif re.fullmatch(r"(?:usb|hostpci|virtiofs)\d+|rng0", option):
            if old is not None:
                _check_device(call, option, old)
            _check_device(call, option, value)
            guest.pending[option] = value
        elif option == "tags":
            cluster.access.check_tags(call.authid, guest.vmid, old or "", value)
            guest.pending[option] = unique_tags(cluster, value)
        elif option == "cipassword":
            if not WINDOWS.fullmatch(guest.config.get("ostype", "other")) and not CRYPTED.match(value):
                value = crypt(cluster, value)
            guest.config[option] = value
        elif option == "ostype":
            machine = {**guest.config, **guest.pending}.get("machine")
            if "machine" not in modified and "machine" not in guest.pending:
                pinned = pin_machine(machine, value, task)
                if pinned:
                    guest.pending["machine"] = pinned
            guest.pending[option] = value
        else:
            guest.pending[option] = value
            if option == "boot":
                self._set_boot(guest, value)
            if re.fullmatch(r"net\d+", option) and old is not None:
                _check_bridges(call, {option: old})
        guest.pending_delete.pop(option, None)
        if guest.pending.get(option) == "":
            # A line without a value is not read back.
            del guest.pending[option]
            if option in guest.config:
                guest.pending_delete[option] = 1
        cluster.touched(guest.vmid)

    def _set_boot(self, guest: Guest, value: str) -> None:
        devices = boot_devices({"boot": value})
        if not devices:
            return
        for device in devices:
            known = device in guest.config or device in guest.pending or device in self.values
            if not known or device in self.delete:
                raise die(f"invalid bootorder: device '{device}' does not exist'")
        guest.pending["boot"] = _show_order(devices)
        if "bootdisk" in guest.config:
            guest.pending_delete["bootdisk"] = 1


def _plain(value: Any) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)


def _show_order(devices: list[str]) -> str:
    return f"order={';'.join(devices)}"


def pin_machine(machine: str | None, ostype: str, task: Task | None) -> str | None:
    """Windows gets its machine version pinned (check_and_pin_machine_string)."""
    if not WINDOWS.fullmatch(ostype) or machine not in (None, "pc", "q35"):
        return None
    pinned = "pc-q35-10.2" if machine == "q35" else "pc-i440fx-10.2"
    if task is not None:
        task.log(f"pinning machine type to '{pinned}' for Windows guest OS")
    return pinned


def _cleanup(guest: Guest) -> None:
    """What is pending but no change is dropped (cleanup_pending)."""
    for option in [option for option, value in guest.pending.items() if guest.config.get(option) == value]:
        del guest.pending[option]
    for option in [option for option in guest.pending_delete if option not in guest.config]:
        del guest.pending_delete[option]


def _forget_unused_in_use(guest: Guest) -> None:
    """A volume that a drive has again is no longer unused (write_vm_config)."""
    used = {
        drive["file"] for config in (guest.config, guest.pending) for _o, drive in qemu_pending.drives(guest, config)
    }
    for option in [option for option in guest.config if is_unused(option) and guest.config[option] in used]:
        del guest.config[option]


def put(call: Call) -> Steps[None]:
    """PUT /nodes/{node}/qemu/{vmid}/config: everything within the request."""
    update = Update(call)
    update.check(final=False)
    yield from update.run(None)


def post(call: Call) -> Steps[str | None]:
    """POST /nodes/{node}/qemu/{vmid}/config: a task."""
    update = Update(call)
    update.check(final=False)
    upid = call.task("qmconfig", call.vmid, update.run)
    delay = call.params.get("background_delay")
    if delay:
        return (yield from call.cluster.tasks.wait(upid, float(delay), f"failed to update VM {call.vmid}"))
    return upid


def update_locked(call: Call, vmid: int, params: Mapping[str, str], task: Task) -> Steps[None]:
    """Set options of another VM than the call's, whose configuration is locked already (update_vm_api). Raises ApiError."""
    values: dict[str, Any] = {"node": call.node, "vmid": vmid, **params}
    update = Update(replace(call, params=values, raw=values))
    update.check(final=False)
    yield from update.locked(task)


def unlink(call: Call) -> Steps[None]:
    """PUT /nodes/{node}/qemu/{vmid}/unlink: a deletion by another name."""
    params = dict(call.params)
    params["delete"] = params.pop("idlist")
    call.params = params
    update = Update(call)
    update.check(final=False)
    yield from update.run(None)


# ---------------------------------------------------------------------------------------------------------------------
# Cloud-init

_CLOUDINIT = "cicustom cipassword citype ciupgrade ciuser nameserver searchdomain sshkeys"


def cloudinit_get(call: Call) -> list[dict[str, Any]]:
    """GET .../cloudinit: settings as the image has them, and as they are now."""
    guest = call.cluster.guest("qemu", call.node, call.vmid)
    config, old = dict(guest.config), dict(guest.cloudinit)
    for values in (config, old):
        if "cipassword" in values:
            values["cipassword"] = MASK
    added = split_list(old.pop("added", ""))
    rows: list[dict[str, Any]] = [{"key": key, "pending": config.get(key)} for key in added]
    for key in _CLOUDINIT.split():
        if not config.get(key) or key in added:
            continue
        rows.append(
            {"key": key, "value": old[key], "pending": config[key]}
            if key in old
            else {"key": key, "value": config[key]}
        )
    rows += [{"key": key, "delete": 1} for key in old if not config.get(key)]
    return rows


def cloudinit_put(call: Call) -> Steps[None]:
    """PUT .../cloudinit: write the image anew; nothing happens without a drive."""
    cluster = call.cluster
    with (yield from cluster.lock_config(call.node, call.vmid)):
        guest = cluster.guest("qemu", call.node, call.vmid)
        check_lock(guest)
        yield from qemu_disks.regenerate(cluster, guest)
        cluster.write(guest)


def cloudinit_dump(call: Call) -> str:
    """GET .../cloudinit/dump: the data that the guest would get (PVE/QemuServer/Cloudinit.pm)."""
    guest = call.cluster.guest("qemu", call.node, call.vmid)
    config = guest.config
    name = config.get("name", f"VM{guest.vmid}")
    hostname, _rest, domain = name.partition(".")
    kind = call.params["type"]
    if kind == "meta":
        return "instance-id: " + guest.digest() + "\n"
    if kind == "network":
        return "version: 1\nconfig:\n" + "".join(
            f"    - type: physical\n      name: eth{option[3:]}\n      mac_address: '{parse(NET, value)['macaddr'].lower()}'\n"
            for option, value in sorted(config.items())
            if re.fullmatch(r"net\d+", option)
        )
    fqdn = (
        name if domain else f"{hostname}.{config['searchdomain'].split()[0]}" if "searchdomain" in config else hostname
    )
    lines = ["#cloud-config", f"hostname: {hostname}", "manage_etc_hosts: true", f"fqdn: {fqdn}"]
    if "ciuser" in config:
        lines.append(f"user: {config['ciuser']}")
    if "cipassword" in config:
        lines.append(f"password: {config['cipassword']}")
    if "sshkeys" in config:
        lines.append("ssh_authorized_keys:")
        lines += [f"  - {line}" for line in unquote(config["sshkeys"]).splitlines() if line.strip()]
    lines += ["chpasswd:", "  expire: False"]
    if config.get("ciuser") != "root":
        lines += ["users:", "  - default"]
    if config.get("ciupgrade", "1") == "1":
        lines.append("package_upgrade: true")
    return "\n".join(lines) + "\n"


_VM = "/nodes/{node}/qemu/{vmid}"
ROUTES: dict[tuple[str, str], Any] = {
    ("GET", f"{_VM}/config"): get,
    ("PUT", f"{_VM}/config"): put,
    ("POST", f"{_VM}/config"): post,
    ("PUT", f"{_VM}/unlink"): unlink,
    ("GET", f"{_VM}/pending"): get_pending,
    ("GET", f"{_VM}/cloudinit"): cloudinit_get,
    ("PUT", f"{_VM}/cloudinit"): cloudinit_put,
    ("GET", f"{_VM}/cloudinit/dump"): cloudinit_dump,
}

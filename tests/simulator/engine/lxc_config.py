# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's configuration: reading, writing, what is applied at once and what waits for the next start.

Sources: pve-container, PVE/LXC/Config.pm (update_pct_config, vmconfig_hotplug_pending, vmconfig_apply_pending),
PVE/API2/LXC/Config.pm and PVE/API2/LXC.pm (vm_pending, resize_vm, vm_feature, template); pve-guest-common, PVE/GuestHelpers.pm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .clock import Lock, Sleep, Steps
from .guests import is_mount, is_unused
from .http import ApiError, bad_parameter, bad_parameters, die
from .model import GIB, Config, Guest, Volume
from .propstring import LXC_NET, MOUNT, format_size, parse, parse_size, split_list
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

NEW_DISK = re.compile(r"([^:\s]+):(\d+(?:\.\d+)?)")
# Applied to a running container at once (LXC_FASTPLUG_OPTIONS).
_AT_ONCE = frozenset("description onboot startup protection hostname hookscript cores tags lock".split())  # noqa: SIM905
_LIVE = re.compile(r"cpulimit|cpuunits|memory|swap|net\d+")


def find(call: Call) -> Guest:
    """The container of the path. Raises ApiError."""
    return call.cluster.guest("lxc", call.node, call.vmid)


def lock(cluster: Cluster, node: str, vmid: int) -> Lock:
    """The lock file of a container's configuration on a node."""
    return cluster.lock(node, f"/run/lock/lxc/pve-config-{vmid}.lock")


def check_lock(guest: Guest) -> None:
    """500 for a container that is locked."""
    if guest.config.get("lock"):
        raise die(f"CT is locked ({guest.config['lock']})")


def show_net(net: Mapping[str, str]) -> str:
    """A network device as it is stored: the name first, then the keys in order."""
    rest = [f"{key}={net[key]}" for key in sorted(net) if key != "name"]
    return ",".join([f"name={net['name']}", *rest])


def with_mac(cluster: Cluster, text: str) -> str:
    """A network device as the server stores it: a MAC address is made up when none is given (parse_lxc_network)."""
    net = parse(LXC_NET, text)
    net["type"] = "veth"
    net.setdefault("hwaddr", cluster.new_mac())
    return show_net(net)


def show_mount(mount: Mapping[str, str], option: str) -> str:
    """A mount point as it is stored: volume, path, then the keys in order (print_ct_mountpoint)."""
    rest = dict(mount)
    parts = [rest.pop("volume")]
    path = rest.pop("mp", None)
    if path is not None and option != "rootfs":
        parts.append(f"mp={path}")
    return ",".join([*parts, *(f"{key}={rest[key]}" for key in sorted(rest))])


def mounts(config: Config) -> dict[str, dict[str, str]]:
    """The mount points of a configuration, parsed, the root first."""
    options = sorted(
        filter(is_mount, config),
        key=lambda option: (option != "rootfs", int(option[2:] or 0) if option != "rootfs" else 0),
    )
    return {option: parse(MOUNT, config[option]) for option in options}


def is_volume(mount: Mapping[str, str]) -> bool:
    """Whether a mount point is a volume, neither a bind mount nor a device (classify_mountpoint)."""
    return not mount["volume"].startswith("/")


def in_use(guest: Guest, volid: str, *, snapshots: bool = True, pending: bool = False) -> bool:
    """Whether a mount point has the volume (is_volume_in_use)."""
    configs = [guest.config, *(guest.snapshots.values() if snapshots else ()), *([guest.pending] if pending else ())]
    return any(mount["volume"] == volid for config in configs for mount in mounts(config).values())


def add_unused(guest: Guest, volid: str) -> None:
    """Note a volume as unusedN (AbstractConfig.pm add_unused_volume)."""
    if volid not in (value for option, value in guest.config.items() if is_unused(option)):
        number = next(number for number in range(256) if f"unused{number}" not in guest.config)
        guest.config[f"unused{number}"] = volid


def unique_tags(cluster: Cluster, text: str) -> str:
    """Tags in lower case, sorted, once each, unless the datacenter says otherwise (GuestHelpers.pm get_unique_tags)."""
    exact = cluster.tag_style.get("case-sensitive") == "1"
    tags = [tag if exact else tag.lower() for tag in split_list(text)]
    if cluster.tag_style.get("ordering") != "config":
        tags.sort()
    return ";".join(dict.fromkeys(tags))


def described(text: str) -> str:
    """A description as it is read back: each line ends with a newline, the last one too (parse_pct_config)."""
    text = text.rstrip("\n")
    return text + "\n" if text else ""


def allocate(
    cluster: Cluster, guest: Guest, option: str, mount: dict[str, str], task: Task | None
) -> Steps[Volume | None]:
    """Make the volume of a mount point that asks for one, `STORAGE:GIB`; the mount point then names it (create_disks)."""
    found = NEW_DISK.fullmatch(mount["volume"])
    if not found:
        return None
    size = int(float(found[2]) * 1024) * 1024**2
    storage = cluster.storages.enabled(found[1], guest.node)
    form = "subvol" if storage.type == "zfspool" else "raw"
    volume = yield from cluster.storages.allocate(
        guest.node, found[1], guest.vmid, size, form, task=task, content="rootdir"
    )
    mount["volume"] = volume.volid
    mount["size"] = format_size(size)
    return volume


# --- writing --------------------------------------------------------------------------------------------------------


def check_permissions(
    call: Call, guest: Guest | None, pool: str | None, new: Config, delete: Iterable[str], unprivileged: bool
) -> None:
    """403 or 500 unless the options may be set and removed (check_ct_modify_config_perm)."""
    access, user, vmid = call.cluster.access, call.authid, call.vmid
    old = guest.config if guest is not None else {}
    if call.root:
        return
    for option in [*new, *delete]:
        access.check_ct_option(user, vmid, pool, option)
        value = new.get(option)
        if is_mount(option) and value is not None:
            mount = parse(MOUNT, value)
            if not is_volume(mount):
                kind = "device" if mount["volume"].startswith("/dev/") else "bind"
                raise ApiError(403, f"Permission check failed (mount point type {kind} is only allowed for root@pam)")
            found = NEW_DISK.fullmatch(mount["volume"])
            if found:
                access.check_allocation(user, found[1])
            else:
                volume = call.cluster.storages.find(call.node, mount["volume"])
                content, owner = (volume.content, volume.vmid) if volume else ("rootdir", None)
                access.check_volume(user, vmid, mount["volume"], content, owner, "rootdir")
        elif re.fullmatch(r"net\d+", option):
            for text in filter(None, (old.get(option), value)):
                net = parse(LXC_NET, text)
                if "bridge" in net:
                    access.check_bridge(user, net["bridge"], net.get("tag"), net.get("trunks", ""))
        elif option == "tags":
            access.check_tags(user, vmid, old.get("tags", ""), value or "")
        elif option == "features":
            features = parse(LXC_NET, old.get(option, "")), parse(LXC_NET, value or "")
            access.check_ct_features(user, vmid, pool, *features, unprivileged)


def rewrite(cluster: Cluster, guest: Guest, option: str, value: str) -> str:
    """What the server makes of a value before it is noted as pending. Raises ApiError."""
    if "\n" in value and option != "description":
        raise die("property contains a line feed")
    if is_mount(option):
        mount = parse(MOUNT, value)
        if is_volume(mount):
            name = split_volid(mount["volume"])[0]
            if "rootdir" not in cluster.storages.config(name).content:
                raise die(f"storage '{name}' does not allow content type 'rootdir' (Container)")
    elif option in ("nameserver", "searchdomain"):
        return " ".join(split_list(value))
    elif option == "unprivileged":
        raise die(f"unable to modify read-only option: '{option}'")
    elif option == "tags":
        return unique_tags(cluster, value)
    elif option == "description":
        return described(value)
    return value


def update(call: Call) -> Steps[None]:
    """PUT /nodes/{node}/lxc/{vmid}/config."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    params = {name: value for name, value in call.params.items() if name not in ("node", "vmid")}
    digest = params.pop("digest", None)
    if not params:
        raise die("no options specified")
    delete, revert = split_list(params.pop("delete", "")), split_list(params.pop("revert", ""))
    new = {name: str(value) for name, value in params.items()}
    with (yield from lock(cluster, node, vmid).acquire(10.0)):
        guest = find(call)
        check_lock(guest)
        if digest and digest != guest.digest():
            raise die("detected modified configuration - file changed by other user? Try again.")
        unprivileged = guest.config.get("unprivileged") == "1"
        check_permissions(call, guest, None, {}, [*delete, *revert], unprivileged)
        _check_names(call, new, delete, revert)
        check_permissions(call, guest, None, new, [], unprivileged)
        before = (dict(guest.config), dict(guest.pending), dict(guest.pending_delete))
        try:
            errors = yield from _update(cluster, guest, new, delete, revert)
            if errors:
                raise bad_parameters(errors)
            cluster.write(guest)
        except ApiError:
            # Nothing is written unless all went well.
            guest.config, guest.pending, guest.pending_delete = before
            raise


def _check_names(call: Call, new: Config, delete: list[str], revert: list[str]) -> None:
    known = call.cluster.schema.endpoint("PUT", "/nodes/{node}/lxc/{vmid}/config").parameters.keys() - {
        "node", "vmid", "digest", "delete", "revert",
    }  # fmt: skip
    for option in revert:
        if option not in known:
            raise bad_parameter(revert=f"unknown option '{option}'")
        if option in new:
            raise bad_parameter(revert=f"you can't use '-{option}' and '-revert {option}' at the same time")
    for option in delete:
        if option not in known:
            raise bad_parameter(delete=f"unknown option '{option}'")
        if option in new:
            raise bad_parameter(delete=f"you can't use '-{option}' and -delete {option}' at the same time")
        if option in revert:
            raise bad_parameter(delete=f"you can't use '-delete {option}' and '-revert {option}' at the same time")


def _update(cluster: Cluster, guest: Guest, new: Config, delete: list[str], revert: list[str]) -> Steps[dict[str, str]]:
    """update_pct_config: everything becomes pending, then what can be is applied. Returns errors by option."""
    for option in revert:
        guest.pending.pop(option, None)
        guest.pending_delete.pop(option, None)
    modified = set()
    for option in delete:
        if option not in guest.config and option not in guest.pending:
            continue
        modified.add(option)
        if option in ("memory", "rootfs", "ostype"):
            raise die(f"unable to delete required option '{option}'")
        if (is_unused(option) or is_mount(option)) and guest.config.get("protection") == "1":
            raise die(f"can't remove CT {guest.vmid} drive '{option}' - protection mode enabled")
        if option == "unprivileged":
            raise die(f"unable to delete read-only option: '{option}'")
        guest.pending.pop(option, None)
        guest.pending_delete[option] = 1
    for option in sorted(new):
        modified.add(option)
        if is_mount(option) and guest.config.get("protection") == "1":
            raise die(f"can't update CT {guest.vmid} drive '{option}' - protection mode enabled")
        guest.pending[option] = rewrite(cluster, guest, option, new[option])
        guest.pending_delete.pop(option, None)
    _clean_up(guest)
    if guest.running:
        return (yield from _hotplug(cluster, guest, modified))
    return (yield from apply_pending(cluster, guest, modified))


def change(cluster: Cluster, guest: Guest, new: Config) -> Steps[dict[str, str]]:
    """Set options as a request for them would, nobody's permissions asked (update_pct_config). Returns errors by option."""
    return (yield from _update(cluster, guest, new, [], []))


def _clean_up(guest: Guest) -> None:
    """Pending changes that change nothing (AbstractConfig.pm cleanup_pending)."""
    for option in [option for option, value in guest.pending.items() if guest.config.get(option) == value]:
        del guest.pending[option]
    for option in [option for option in guest.pending_delete if option not in guest.config]:
        del guest.pending_delete[option]


def _hotplug(cluster: Cluster, guest: Guest, modified: set[str]) -> Steps[dict[str, str]]:
    errors: dict[str, str] = {}
    for option in sorted(set(guest.pending) & modified & _AT_ONCE):
        guest.config[option] = guest.pending.pop(option)
    for option in sorted(set(guest.pending_delete) & modified):
        if is_unused(option):
            volid = guest.config[option]
            if not in_use(guest, volid, pending=True):
                yield from cluster.storages.free(guest.node, volid)
        elif (
            option not in _AT_ONCE
            and option not in ("swap", "cpulimit", "cpuunits")
            and not re.fullmatch(r"net\d", option)
        ):
            continue
        guest.config.pop(option, None)
        del guest.pending_delete[option]
    for option in sorted(set(guest.pending) & modified):
        value = guest.pending[option]
        try:
            if re.fullmatch(r"net\d+", option):
                value = with_mac(cluster, value)
                _check_bridge(cluster, guest, value)
            elif is_mount(option):
                if option in guest.config or option == "rootfs":
                    continue
                value = yield from _apply_mount(cluster, guest, option, value)
            elif not _LIVE.fullmatch(option) and not (re.fullmatch(r"dev\d+", option) and option not in guest.config):
                continue
        except ApiError as error:
            errors[option] = f"unable to hotplug {option}: {error.text}\n"
            continue
        guest.config[option] = value
        guest.pending.pop(option, None)
    if not guest.config.get("description", "-"):
        del guest.config["description"]
    yield Sleep(0.05)
    return errors


def _check_bridge(cluster: Cluster, guest: Guest, text: str) -> None:
    bridge = parse(LXC_NET, text).get("bridge")
    if bridge is not None and bridge not in cluster.nodes[guest.node].bridges:
        raise die(f"bridge '{bridge}' does not exist")


def apply_pending(cluster: Cluster, guest: Guest, modified: set[str] | None = None) -> Steps[dict[str, str]]:
    """vmconfig_apply_pending: all that is pending of a stopped container, or of the options given. Returns errors by option."""
    errors: dict[str, str] = {}
    for option in sorted(guest.pending_delete):
        if modified is not None and option not in modified:
            continue
        try:
            if is_mount(option):
                # That it is not in use is asked with the text of the mount point, which is nobody's volume.
                mount = parse(MOUNT, guest.config[option])
                del guest.config[option]
                if is_volume(mount):
                    add_unused(guest, mount["volume"])
            elif is_unused(option) and not in_use(guest, guest.config[option], pending=True):
                yield from cluster.storages.free(guest.node, guest.config[option])
        except ApiError as error:
            errors[option] = f"unable to apply pending change {option} : {error.text}\n"
            continue
        guest.config.pop(option, None)
        del guest.pending_delete[option]
    _clean_up(guest)
    for option in sorted(guest.pending):
        if modified is not None and option not in modified:
            continue
        value = guest.pending[option]
        try:
            if is_mount(option) and option != "rootfs":
                value = yield from _apply_mount(cluster, guest, option, value)
            elif re.fullmatch(r"net\d+", option):
                value = with_mac(cluster, value)
        except ApiError as error:
            errors[option] = f"unable to apply pending change {option} : {error.text}\n"
            continue
        guest.config[option] = value
        guest.pending.pop(option, None)
    if not guest.config.get("description", "-"):
        del guest.config["description"]
    _drop_unused(guest)
    return errors


def _apply_mount(cluster: Cluster, guest: Guest, option: str, value: str) -> Steps[str]:
    """apply_pending_mountpoint. Returns the new value."""
    mount, old = parse(MOUNT, value), guest.config.get(option)
    if is_volume(mount):
        made = yield from allocate(cluster, guest, option, mount, None)
        if made is None:
            mount["size"] = format_size(cluster.storages.get(guest.node, mount["volume"]).size)
    if old is not None:
        volid = parse(MOUNT, old)["volume"]
        guest.config.pop(option)
        if volid != mount["volume"] and ":" in volid and not in_use(guest, volid, snapshots=False):
            add_unused(guest, volid)
    return show_mount(mount, option)


def _drop_unused(guest: Guest) -> None:
    """A volume that is mounted again is no longer unused (write_pct_config)."""
    for option in [option for option in guest.config if is_unused(option)]:
        if in_use(guest, guest.config[option], snapshots=False):
            del guest.config[option]


# --- endpoints ------------------------------------------------------------------------------------------------------


def _typed(cluster: Cluster, config: Config) -> dict[str, Any]:
    known = cluster.schema.endpoint("PUT", "/nodes/{node}/lxc/{vmid}/config").parameters
    integers = {"snaptime", "template", "unprivileged"}
    return {
        key: int(value) if (key in integers or known.get(key, {}).get("type") in ("integer", "boolean")) else value
        for key, value in config.items()
    }


def get_config(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/lxc/{vmid}/config."""
    guest, snapshot = find(call), call.params.get("snapshot")
    if snapshot and call.params.get("current"):
        text = "cannot use 'snapshot' parameter with 'current'"
        raise bad_parameter(snapshot=text, current=text)
    if snapshot and snapshot not in guest.snapshots:
        raise die(f"snapshot '{snapshot}' does not exist")
    config = (
        guest.snapshots[snapshot] if snapshot else guest.config if call.params.get("current") else guest.effective()
    )
    row = _typed(call.cluster, config)
    row["digest"] = guest.digest()
    return row


def get_pending(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/lxc/{vmid}/pending (GuestHelpers.pm config_with_pending_array)."""
    guest = find(call)
    pending = _typed(call.cluster, guest.pending)
    rows: list[dict[str, Any]] = [{"key": "digest", "value": guest.digest()}]
    for key, value in _typed(call.cluster, guest.config).items():
        row = {"key": key, "value": value}
        if key in pending:
            row["pending"] = pending.pop(key)
        if key in guest.pending_delete:
            row["delete"] = 1
        rows.append(row)
    rows += [{"key": key, "pending": value} for key, value in pending.items()]
    rows += [{"key": key, "delete": 1} for key in guest.pending_delete if key not in guest.config]
    return rows


def resize(call: Call) -> str:
    """PUT /nodes/{node}/lxc/{vmid}/resize."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    text = params["size"]

    def check() -> tuple[Guest, dict[str, str], Volume, int]:
        guest = find(call)
        check_lock(guest)
        disk = params["disk"]
        cluster.access.check_ct_option(call.authid, vmid, None, disk)
        if params.get("digest") not in (None, "", guest.digest()):
            raise die("detected modified configuration - file changed by other user? Try again.")
        mount = parse(MOUNT, guest.config.get(disk, ""))
        if "volume" not in mount:
            errors = f"{disk}.volume: property is missing and it is not optional"
            raise die(f"format error\n{errors}")
        volume = cluster.storages.get(node, mount["volume"])
        if volume.vmid != vmid:
            raise die(f"can't resize mount point owned by another container ({volume.vmid})")
        cluster.access.check_allocation(call.authid, split_volid(volume.volid)[0])
        size = volume.size + parse_size(text[1:]) if text.startswith("+") else parse_size(text)
        if size < volume.size:
            raise die("unable to shrink disk size")
        if size == volume.size:
            raise die("disk is already at specified size")
        return guest, mount, volume, size

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest, mount, volume, size = check()
            yield Sleep(0.2)
            storage = cluster.storages.all[split_volid(volume.volid)[0]]
            if size - volume.size > storage.size - cluster.storages.used(storage, node):
                raise die(f"command '/usr/bin/qemu-img resize -f raw {volume.volid} {size}' failed: exit code 1")
            task.log("Image resized.\ne2fsck 1.47.2 (1-Jan-2025)\nresize2fs 1.47.2 (1-Jan-2025)")
            volume.size = volume.used = size
            mount["size"] = format_size(size)
            guest.config[params["disk"]] = show_mount(mount, params["disk"])
            cluster.write(guest)

    check()
    return call.task("resize", vmid, body)


def has_feature(cluster: Cluster, guest: Guest, feature: str, snapname: str | None = None) -> bool:
    """Whether all volumes can be snapshot, cloned or copied (has_feature)."""
    config = guest.snapshots[snapname] if snapname else guest.config
    for mount in mounts(config).values():
        if not is_volume(mount):
            return False
        volume = cluster.storages.find(guest.node, mount["volume"])
        storage = cluster.storages.config(split_volid(mount["volume"])[0])
        form = volume.format if volume is not None else "raw"
        # Containers live on raw images or subvolumes: files have no snapshots then.
        base = mount["volume"].rsplit("/", 1)[-1].rsplit(":", 1)[-1].startswith("base")
        able = {
            "snapshot": storage.snapshots(form),
            "clone": storage.type in ("lvmthin", "zfspool", "rbd") and (base or snapname is not None),
            "copy": snapname is None or storage.snapshots(form),
        }
        if not able[feature]:
            return False
    return True


def feature(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/lxc/{vmid}/feature."""
    guest, snapname = find(call), call.params.get("snapname")
    if snapname and snapname not in guest.snapshots:
        raise die(f"snapshot '{snapname}' does not exist")
    return {"hasFeature": int(has_feature(call.cluster, guest, call.params["feature"], snapname))}


def make_template(cluster: Cluster, guest: Guest) -> None:
    """Turn a container's volumes into base images (template_create). Raises ApiError."""
    for option, mount in mounts(guest.config).items():
        storage = cluster.storages.config(split_volid(mount["volume"])[0])
        if not (storage.has_files or storage.type in ("lvmthin", "zfspool", "rbd")):
            raise die(f"Template feature is not available for '{mount['volume']}'")
        mount["volume"] = cluster.storages.make_base(guest.node, mount["volume"])
        guest.config[option] = show_mount(mount, option)
    guest.config["template"] = "1"
    cluster.touched(guest.vmid)


def template(call: Call) -> Steps[None]:
    """POST /nodes/{node}/lxc/{vmid}/template: a task is started, but its UPID is not returned."""
    cluster, vmid = call.cluster, call.vmid
    with (yield from lock(cluster, call.node, vmid).acquire(10.0)):
        guest = find(call)
        check_lock(guest)
        if guest.snapshots:
            raise die("unable to create template, because CT contains snapshots")
        if guest.template:
            raise die("you can't convert a template to a template")
        if guest.running:
            raise die("you can't convert a CT to template if the CT is running")

        def body(task: Task) -> Steps[None]:
            yield Sleep(0.1)
            make_template(cluster, guest)
            cluster.write(guest)

        call.task("vztemplate", vmid, body)


_PATH = "/nodes/{node}/lxc/{vmid}"
ROUTES = {
    ("GET", f"{_PATH}/config"): get_config,
    ("PUT", f"{_PATH}/config"): update,
    ("GET", f"{_PATH}/pending"): get_pending,
    ("PUT", f"{_PATH}/resize"): resize,
    ("GET", f"{_PATH}/feature"): feature,
    ("POST", f"{_PATH}/template"): template,
}

__all__ = ["GIB", "ROUTES"]

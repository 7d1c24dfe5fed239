# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster is made of: nodes, storages, volumes, guests, pools. State only; behaviour lives beside it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Config = dict[str, str]  # option -> text, as the configuration file holds it
Kind = Literal["qemu", "lxc"]

GIB = 1024**3
MIB = 1024**2


@dataclass
class Node:
    """A cluster node."""

    name: str
    nodeid: int
    ip: str
    since: float  # when it was booted
    maxcpu: int = 16
    maxmem: int = 64 * GIB
    maxdisk: int = 250 * GIB
    online: bool = True
    # What a proxy to it gets while it is down: refused at once, or no answer (30 s at first, then some 3 s).
    unreachable: Literal["refused", "timeout"] = "refused"
    down_since: float = 0.0
    pids: int = 1000
    bridges: tuple[str, ...] = ("vmbr0", "vmbr1")
    ticked: float = 0.0  # when its pvestatd last broadcast


@dataclass
class Storage:
    """A storage of the datacenter."""

    name: str
    type: str  # dir, nfs, cifs, lvm, lvmthin, zfspool, rbd
    content: tuple[str, ...]
    shared: bool = False
    nodes: tuple[str, ...] | None = None  # None: on all
    path: str = ""
    size: int = 250 * GIB
    used: int = 0  # beside the volumes that the simulator knows of
    enabled: bool = True
    options: dict[str, str] = field(default_factory=dict)

    @property
    def has_files(self) -> bool:
        """Whether volumes are files below `path`."""
        return self.type in ("dir", "nfs", "cifs", "cephfs", "btrfs")

    def snapshots(self, form: str) -> bool:
        """Whether a volume of this format can have snapshots here (PVE/Storage/*Plugin.pm, volume_has_feature)."""
        if self.has_files:
            return form == "qcow2"
        return self.type in ("lvmthin", "zfspool", "rbd")


@dataclass
class Volume:
    """A volume on a storage."""

    volid: str
    size: int
    format: str
    content: str
    vmid: int | None
    ctime: int
    parent: str | None = None  # volume that it is a linked clone of
    snapshots: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # snapshot -> size then
    notes: str = ""
    protected: bool = False
    used: int = 0
    verification: dict[str, str] = field(default_factory=dict)  # of a backup on a Proxmox Backup Server: state, upid


@dataclass
class Power:
    """A guest's process."""

    pid: int
    since: float
    qmp: str = "running"  # qmpstatus
    machine: str = "pc-i440fx-10.2+pve0"
    frozen_since: float | None = None
    moved_from: float | None = None  # moved here running: when its software was started elsewhere

    @property
    def booted(self) -> float:
        """When the software inside was started."""
        return self.since if self.moved_from is None else self.moved_from


@dataclass
class Behaviour:
    """How the software inside a guest behaves. Tests change it."""

    agent: bool = True  # the guest agent answers once the guest has booted
    boot_seconds: float = 4.0  # until the agent answers
    acpi: bool = True  # shuts down when asked
    shutdown_seconds: float = 1.5
    start_error: str | None = None  # starting fails with this text
    start_warning: str | None = None
    addresses: tuple[str, ...] = ()  # of the first interface, with prefix length; () makes one up
    cpu: float = 0.02
    hotplug_errors: dict[str, str] = field(default_factory=dict)  # option -> why (un)plugging it fails
    programs: dict[str, Program] = field(default_factory=dict)  # what the guest agent can run, beside agent.PROGRAMS
    agent_seconds: dict[str, float] = field(
        default_factory=dict
    )  # guest-x -> how long the agent works on it, usually 0.02
    agent_blocked: frozenset[str] = frozenset()  # guest-x that the agent's own configuration forbids


@dataclass(frozen=True)
class Ran:
    """How a program that the guest agent started ends; what it does it has done at once."""

    seconds: float = 0.05
    code: int = 0
    signal: int | None = None
    out: bytes = b""
    err: bytes = b""


Program = Callable[["Inside", list[str], bytes], Ran]  # arguments with the program's own name, standard input


@dataclass
class Inside:
    """What the guest agent reaches inside a VM. What runs and what is frozen ends with the guest's process."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/etc/hostname": b"guest\n"})
    directories: set[str] = field(default_factory=lambda: {"/", "/etc", "/root", "/srv", "/tmp", "/var"})
    passwords: dict[str, tuple[str, bool]] = field(
        default_factory=lambda: {"root": ("", False)}
    )  # user -> text, crypted
    ran: list[list[str]] = field(default_factory=list)  # every program that was ever started
    trims: int = 0
    booted: float = -1.0  # the start of the guest that what follows belongs to
    frozen: bool = False
    processes: dict[int, tuple[float, Ran]] = field(default_factory=dict)  # pid -> when it ends, and how
    last_pid: int = 700
    busy_until: float = 0.0  # the agent does one thing at a time


@dataclass
class Stat:
    """What pvestatd last broadcast about a guest."""

    row: dict[str, Any]  # the columns of /cluster/resources but uptime
    since: float | None  # of the process


@dataclass
class Guest:
    """A VM or a container."""

    vmid: int
    kind: Kind
    node: str
    config: Config = field(default_factory=dict)
    pending: Config = field(default_factory=dict)
    pending_delete: dict[str, int] = field(default_factory=dict)  # option -> 1, or 2 when forced
    snapshots: dict[str, Config] = field(default_factory=dict)
    cloudinit: Config = field(default_factory=dict)  # the cloud-init settings that the running guest was made with
    power: Power | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    inside: Inside = field(default_factory=Inside)
    stat: Stat | None = None
    reboot_flag: bool = False  # /run/qemu-server/ID.reboot: to be started again when it has stopped
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self.power is not None

    @property
    def template(self) -> bool:
        """Whether it is a template."""
        return self.config.get("template") == "1"

    @property
    def directory(self) -> str:
        """Where its configuration lies in /etc/pve/nodes/NODE."""
        return "qemu-server" if self.kind == "qemu" else "lxc"

    def digest(self) -> str:
        """SHA-1 of the configuration file."""
        return hashlib.sha1(self.text().encode()).hexdigest()

    def text(self) -> str:
        """The configuration file (PVE/QemuServer.pm, write_vm_config)."""

        def lines(config: Config) -> list[str]:
            return [f"{key}: {config[key]}" for key in sorted(config)]

        parts = lines(self.config)
        if self.pending or self.pending_delete:
            marked = ",".join(("!" if force == 2 else "") + key for key, force in sorted(self.pending_delete.items()))
            parts += ["", "[PENDING]", *([f"delete: {marked}"] if marked else []), *lines(self.pending)]
        if self.cloudinit:
            parts += ["", "[special:cloudinit]", *lines(self.cloudinit)]
        for name in sorted(self.snapshots):
            parts += ["", f"[{name}]", *lines(self.snapshots[name])]
        return "\n".join(parts) + "\n"

    def effective(self) -> Config:
        """The configuration with pending changes applied, as GET config shows it without `current`."""
        config = {key: value for key, value in self.config.items() if key not in self.pending_delete}
        config.update(self.pending)
        return config

    def copy_config(self) -> Config:
        """A copy of the current configuration."""
        return copy.copy(self.config)


@dataclass
class Durations:
    """How long things take, in virtual seconds. Tests may change every one."""

    request: float = 0.01  # a request beside what it waits for
    fork: float = 0.01  # until a task's work begins
    start: float = 0.3
    stop: float = 0.4
    kill: float = 5.0  # until a guest that does not answer is killed
    create: float = 0.05
    allocate: float = 0.05  # while the storage is locked
    clone_seconds_per_gib: float = 0.5
    linked_clone: float = 0.1
    migrate_seconds_per_gib: float = 1.0
    migrate_setup: float = 0.5
    snapshot: float = 0.2
    hotplug: float = 0.6
    agent_timeout: float = 3.0
    qmp: float = 0.003  # to ask one QEMU for all that its status tells, in a list of all
    statd: float = 10.0
    restart: float = 0.7  # from the end of a reboot's shutdown to qmeventd's start
    cleanup_lock: float = 30.0  # qm cleanup holds the lock when the guest runs again already
    cleanup_delay: float = 0.6
    backup_seconds_per_gib: float = 2.0
    ha_crm: float = 10.0
    ha_lrm: float = 5.0

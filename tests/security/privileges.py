"""The least privileges that each scenario needs, path by path; the documentation of each module tells the same in words."""

from __future__ import annotations

from collections.abc import Mapping

from tests.promises.scenarios import SCENARIOS, Scenario

# path -> privileges
Grants = Mapping[str, str]

AUDIT = "VM.Audit"
NEW = {"/vms/103": "VM.Allocate VM.Audit"}
NEW_150 = {"/vms/150": "VM.Allocate VM.Audit"}
SOURCE = {"/vms/9000": "VM.Audit VM.Clone"}
BRIDGE = {"/sdn/zones/localnetwork/vmbr0": "SDN.Use"}
LVM = {"/storage/local-lvm": "Datastore.AllocateSpace"}
SHARED = {"/storage/shared": "Datastore.AllocateSpace Datastore.Audit"}


def guest(vmid: int, *privileges: str) -> dict[str, str]:
    return {f"/vms/{vmid}": " ".join(("VM.Audit", *privileges))}


def power(vmid: int) -> dict[str, str]:
    return guest(vmid, "VM.PowerMgmt")


def everywhere(privileges: str) -> dict[str, str]:
    return {f"/nodes/{node}": privileges for node in ("pve1", "pve2", "pve3")}


MANAGING: Mapping[str, Grants] = {
    "vm_clone-next-vmid": {**SOURCE, **NEW, **LVM, **BRIDGE},
    "vm_clone-linked": {**SOURCE, **NEW_150, **LVM, **BRIDGE},
    "vm_clone-full": {**SOURCE, **NEW_150, **LVM, **BRIDGE},
    "vm_clone-pool": {**SOURCE, "/vms/103": AUDIT, "/pool/test": "VM.Allocate", **LVM, **BRIDGE},
    "vm_clone-shared": {"/vms/9001": "VM.Audit VM.Clone", **NEW, **SHARED, **BRIDGE},
    "vm_clone-auto": {
        "/vms/9001": "VM.Audit VM.Clone",
        "/nodes/pve2": "Sys.Audit",
        **NEW,
        **SHARED,
        **BRIDGE,
    },
    "vm_clone-auto-there": guest(100),
    "vm_clone-local-moved": {**SOURCE, "/vms/103": "VM.Allocate VM.Audit VM.Migrate", **LVM, **BRIDGE},
    "vm_clone-snapshot": {"/vms/101": "VM.Audit VM.Clone", **NEW, **LVM, **BRIDGE},
    "vm_clone-there": guest(100),
    "vm_clone-there-both": guest(100),
    **{
        f"vm_power-{name}": power(100)
        for name in (
            *("resume", "shutdown", "shutdown-forced", "stop", "pause", "restart", "restart-forced"),
            *("reset",),
        )
    },
    "vm_power-start": power(101),
    "vm_power-started": guest(100),
    "vm_power-stopped": guest(101),
    "vm_power-hibernate": {**guest(100, "VM.PowerMgmt", "VM.Config.Disk"), **LVM},
    **{f"vm_power-ha-{name}": power(110) for name in ("start", "stop", "stop-now", "restart-forced")},
    "vm_power-ha-started": guest(110),
    "vm_power-container-stop": power(200),
    "vm_power-container-restart": power(200),
    "vm_config-cores": guest(101, "VM.Config.CPU", "VM.Config.Memory"),
    "vm_config-cores-running": guest(100, "VM.Config.CPU"),
    "vm_config-tags": guest(101, "VM.Config.Options"),
    "vm_config-description": guest(101, "VM.Config.Options"),
    "vm_config-net-merge": {**guest(101, "VM.Config.Network"), "/sdn/zones/localnetwork/vmbr0/20": "SDN.Use", **BRIDGE},
    "vm_config-net-new": {**guest(101, "VM.Config.Network"), **BRIDGE},
    "vm_config-grow": {**guest(101, "VM.Config.Disk"), **LVM},
    "vm_config-grow-and-more": {**guest(101, "VM.Config.CPU", "VM.Config.Disk"), **LVM},
    "vm_config-new-disk": {**guest(101, "VM.Config.Disk"), **LVM},
    "vm_config-remove": guest(100, "VM.Config.Cloudinit", "VM.Config.Options"),
    "vm_config-rename": guest(101, "VM.Config.Options"),
    "vm_config-options": guest(101, "VM.Config.HWType"),
    "vm_config-pool": {**guest(101, "VM.Allocate"), "/pool/test": "Pool.Allocate Pool.Audit"},
    "vm_config-pool-move": {
        **guest(100, "VM.Allocate"),
        "/pool/test": "Pool.Allocate Pool.Audit",
        "/pool/prod": "Pool.Allocate",
    },
    "vm_config-nothing": guest(100),
    "vm_config-reboot": guest(100, "VM.Config.CPU", "VM.PowerMgmt"),
    "vm_config-container": guest(200, "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Options"),
    **{
        f"disk-{name}": {**guest(120, "VM.Config.Disk"), "/storage/shared": "Datastore.AllocateSpace"}
        for name in ("move", "move-keep", "convert")
    },
    "disk-move-unused": {**guest(120, "VM.Config.Disk"), "/storage/san": "Datastore.AllocateSpace"},
    **{f"disk-{name}": guest(120) for name in ("moved", "attached", "detached", "inserted")},
    **{
        f"disk-{name}": guest(120, "VM.Config.Disk")
        for name in ("detach", "detach-later", "attach", "attach-later", "absent-later")
    },
    **{f"disk-{name}": {**guest(120, "VM.Config.Disk"), **LVM} for name in ("absent", "absent-unused")},
    "disk-absent-cd": guest(120, "VM.Config.CDROM"),
    "disk-insert": {**guest(120, "VM.Config.CDROM"), "/storage/shared": "Datastore.Audit"},
    "disk-insert-new": {**guest(120, "VM.Config.CDROM"), "/storage/shared": "Datastore.Audit"},
    "disk-eject": guest(120, "VM.Config.CDROM"),
    "disk-import": {**guest(120, "VM.Config.Disk"), **LVM, "/storage/shared": "Datastore.Audit"},
    **{
        f"disk-{name}": {**guest(120, "VM.Config.Disk"), **guest(121, "VM.Config.Disk"), **LVM}
        for name in ("hand-over", "hand-over-unused")
    },
    "disk-container-move": {**guest(220, "VM.Config.Disk"), "/storage/shared": "Datastore.AllocateSpace"},
    "disk-container-move-keep": {**guest(220, "VM.Config.Disk"), "/storage/san": "Datastore.AllocateSpace"},
    "disk-container-detach": guest(220, "VM.Config.Disk"),
    "disk-container-detach-later": guest(220, "VM.Config.Disk"),
    "disk-container-attach": guest(220, "VM.Config.Disk"),
    "disk-container-absent": guest(220, "VM.Config.Disk", "VM.Config.Options"),
    "disk-container-hand-over": {**guest(220, "VM.Config.Disk"), **guest(221, "VM.Config.Disk"), **LVM},
    "snapshot-create": guest(100, "VM.Snapshot"),
    "snapshot-create-memory": guest(100, "VM.Snapshot"),
    "snapshot-describe": guest(101, "VM.Snapshot"),
    "snapshot-there": guest(101),
    "snapshot-delete": guest(101, "VM.Snapshot"),
    "snapshot-gone": guest(101),
    "snapshot-rollback": guest(101, "VM.Snapshot.Rollback"),
    "snapshot-rollback-start": guest(101, "VM.Snapshot.Rollback", "VM.PowerMgmt"),
    "snapshot-keep": guest(101, "VM.Snapshot"),
    "snapshot-thin-out": guest(101, "VM.Snapshot"),
    "snapshot-container": guest(200, "VM.Snapshot"),
    # The server starts a container after it without a further check (pve-container, API2/LXC/Snapshot.pm, rollback).
    "snapshot-container-rollback": guest(200, "VM.Snapshot.Rollback"),
    "migrate-offline": guest(102, "VM.Migrate"),
    "migrate-offline-local": guest(101, "VM.Migrate"),
    "migrate-online-local": guest(100, "VM.Migrate"),
    "migrate-other-storage": {
        **guest(101, "VM.Migrate", "VM.Config.Disk"),
        "/storage/local": "Datastore.AllocateSpace",
    },
    "migrate-container": guest(200, "VM.Migrate"),
    "migrate-there": guest(102),
    "migrate-auto": guest(102, "VM.Migrate"),
    "migrate-auto-there": guest(102),
    "migrate-auto-ha": {**guest(110, "VM.Migrate"), "/nodes/pve2": "Sys.Audit"},
    "migrate-ha-running": guest(110, "VM.Migrate"),
    "migrate-ha-stopped": guest(110, "VM.Migrate"),
    "vm_power-fleet-start": {**power(101), **power(102)},
    "vm_power-fleet-stop-some": {**power(100), **guest(101)},
    "vm_power-fleet-started": guest(100),
    "vm_power-fleet-status": {**power(100), "/pool/prod": "Pool.Audit"},
    "vm_power-fleet-none": {},
    "vm_config-fleet": {
        **guest(100, "VM.Config.Options"),
        **guest(101, "VM.Config.CPU", "VM.Config.Options"),
        **guest(102, "VM.Config.CPU", "VM.Config.Options"),
    },
    "vm_config-fleet-kinds": {
        **guest(100, "VM.Config.Options"),
        **guest(101, "VM.Config.Options"),
        **guest(200, "VM.Config.Options"),
    },
    "vm_config-fleet-template": guest(9000, "VM.Config.CPU"),
    "vm_config-fleet-nothing": {**guest(100), "/pool/prod": "Pool.Audit"},
    "snapshot-fleet": {**guest(100, "VM.Snapshot"), **guest(101, "VM.Snapshot")},
    "snapshot-fleet-gone": {**guest(100), **guest(101)},
    "migrate-fleet": {**guest(101, "VM.Migrate"), **guest(102, "VM.Migrate"), **guest(200, "VM.Migrate")},
    "vm_power-start-reach": guest(101, "VM.PowerMgmt", "VM.GuestAgent.Audit"),
    "vm_power-started-reach": guest(100, "VM.GuestAgent.Audit"),
    "vm_power-restart-reach": guest(100, "VM.PowerMgmt", "VM.GuestAgent.Audit"),
    "vm_power-container-reach": guest(200),
    **{f"agent-{name}": guest(100, "VM.GuestAgent.Audit") for name in ("ping", "info", "interfaces")},
    "agent-container": guest(200),
    **{
        f"agent-{name}": guest(100, "VM.GuestAgent.Unrestricted")
        for name in ("exec", "exec-creates", "exec-removes", "exec-created", "password")
    },
    **{f"agent-{name}": guest(100, "VM.GuestAgent.FileRead") for name in ("read", "written")},
    **{
        f"agent-{name}": guest(100, "VM.GuestAgent.FileRead", "VM.GuestAgent.FileWrite")
        for name in ("write", "write-over", "write-nothing")
    },
    **{
        f"agent-{name}": guest(100, "VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt")
        for name in ("freeze", "thaw", "trim")
    },
    "agent-frozen": guest(100, "VM.GuestAgent.Audit"),
    "task-finished": {"/nodes/pve2": "Sys.Audit"},
    "task-failed": {"/nodes/pve1": "Sys.Audit"},
    "task-stop": {"/nodes/pve2": "Sys.Audit Sys.Modify"},
    "task-stopped": {"/nodes/pve1": "Sys.Audit"},
    "lock-none": guest(101),
    "vm-create": {
        **guest(
            103,
            *("VM.Allocate", "VM.PowerMgmt", "VM.GuestAgent.Audit", "VM.Config.CPU", "VM.Config.Memory"),
            "VM.Config.Options",
            "VM.Config.Network",
        ),
        "/pool/test": "Pool.Audit",
        "/sdn/zones/localnetwork/vmbr0/20": "SDN.Use",
        **BRIDGE,
        **LVM,
    },
    "vm-create-vmid": guest(150, "VM.Allocate", "VM.Config.Options"),
    "vm-import": {
        **guest(150, "VM.Allocate", "VM.Config.Disk"),
        **LVM,
        "/storage/local": "Datastore.Audit",
    },
    "vm-clone": {
        **SOURCE,
        **guest(103, "VM.Allocate", "VM.PowerMgmt", "VM.Config.CPU", "VM.Config.Options", "VM.Config.Disk"),
        **LVM,
        **BRIDGE,
    },
    "vm-clone-moved": {
        **SOURCE,
        **guest(103, "VM.Allocate", "VM.Migrate", "VM.Config.CPU", "VM.Config.Options", "VM.Config.Disk"),
        "/pool/test": "Pool.Audit",
        **LVM,
        **BRIDGE,
    },
    "vm-restore": {
        **guest(150, "VM.Allocate", "VM.PowerMgmt", "VM.Config.CPU", "VM.Config.Options", "VM.Config.Disk"),
        "/vms/101": "VM.Backup",
        "/storage/local": "Datastore.AllocateSpace",
        **LVM,
        **BRIDGE,
    },
    "vm-restore-container": {
        **guest(150, "VM.Allocate", "VM.PowerMgmt", "VM.Config.Memory", "VM.Config.Network"),
        "/vms/200": "VM.Backup",
        "/storage/shared": "Datastore.AllocateSpace",
        **LVM,
        **BRIDGE,
    },
    "vm-container": {
        **guest(
            103,
            "VM.Allocate",
            "VM.PowerMgmt",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Disk",
        ),
        "/storage/local": "Datastore.Audit",
        **LVM,
        **BRIDGE,
    },
    "vm-there": guest(100, "VM.Config.Options", "VM.GuestAgent.Audit"),
    "vm-nothing": {**guest(100, "VM.GuestAgent.Audit"), "/pool/prod": "Pool.Audit"},
    "vm-change": guest(100, "VM.Config.CPU", "VM.Config.Options"),
    "vm-reboot": guest(100, "VM.Config.CPU", "VM.PowerMgmt"),
    "vm-start": guest(101, "VM.Config.CPU", "VM.PowerMgmt"),
    "vm-stop": guest(100, "VM.Config.Memory", "VM.PowerMgmt"),
    "vm-template": guest(102, "VM.Allocate"),
    "vm-template-made": {
        **SOURCE,
        **guest(103, "VM.Allocate", "VM.Config.CPU", "VM.Config.Options", "VM.Config.Disk"),
        **LVM,
        **BRIDGE,
    },
    "vm-template-container": guest(200, "VM.Allocate", "VM.PowerMgmt"),
    "vm-absent": guest(102, "VM.Allocate"),
    "vm-absent-running": guest(100, "VM.Allocate", "VM.PowerMgmt"),
    "vm-absent-template": {**guest(9000, "VM.Allocate"), "/storage/local-lvm": "Datastore.Audit"},
    "vm-absent-container": guest(200, "VM.Allocate", "VM.PowerMgmt"),
    "vm-absent-ha": guest(110, "VM.Allocate", "VM.PowerMgmt"),
    "vm-absent-gone": {},
    "vm-absent-gone-vmid": {},
}


LOCAL = {"/storage/local": "Datastore.AllocateSpace"}
LOCAL_SEEN = {"/storage/local": "Datastore.AllocateSpace Datastore.Audit"}
BACKED_UP = {"/vms/101": "VM.Backup"}
JOB = {"/": "Sys.Audit Sys.Modify", "/storage/local": "Datastore.Allocate"}

BACKUPS: Mapping[str, Grants] = {
    "backup-running": {**guest(100, "VM.Backup"), **LOCAL},
    "backup-stopped": {**guest(101, "VM.Backup"), "/storage/shared": "Datastore.AllocateSpace"},
    "backup-other-node": {**guest(102, "VM.Backup"), "/storage/shared": "Datastore.AllocateSpace"},
    "backup-container": {**guest(200, "VM.Backup"), "/storage/shared": "Datastore.AllocateSpace"},
    "backup-once": {**guest(101, "VM.Backup"), **LOCAL},
    "backup-pruned": {
        **guest(100, "VM.Backup"),
        "/storage/shared": "Datastore.Allocate Datastore.AllocateSpace",
        "/": "Sys.Modify",
    },
    "backup-lately": {**guest(101, "VM.Backup"), **LOCAL},
    "backup-once-done": {**guest(101, "VM.Backup"), **LOCAL},
    "backup-attributes": {**BACKED_UP, **LOCAL_SEEN},
    "backup-attributes-same": {**BACKED_UP, **LOCAL_SEEN},
    "backup-remove": {**BACKED_UP, **LOCAL_SEEN},
    "backup-remove-protected": {**BACKED_UP, **LOCAL},
    "backup-gone": {**BACKED_UP, **LOCAL_SEEN},
    "backup_info-all": {**BACKED_UP, **LOCAL_SEEN},
    "backup_info-one": {**BACKED_UP, **LOCAL_SEEN},
    "restore-vmid": {**BACKED_UP, **LOCAL_SEEN, **NEW_150, **LVM, **BRIDGE},
    "restore-next": {
        **BACKED_UP,
        **LOCAL_SEEN,
        "/vms/103": "VM.Audit VM.Config.Options",
        "/pool/test": "VM.Allocate",
        **LVM,
        **BRIDGE,
    },
    "restore-elsewhere": {**BACKED_UP, **SHARED, "/vms/150": "VM.Allocate VM.Audit VM.PowerMgmt", **BRIDGE},
    "restore-over": {**guest(101, "VM.Backup"), **LOCAL, **LVM, **BRIDGE},
    "restore-over-running": {**guest(101, "VM.Backup", "VM.PowerMgmt"), **LOCAL, **LVM, **BRIDGE},
    "restore-rest": {**BACKED_UP, **LOCAL, **guest(150, "VM.Backup"), **LVM, **BRIDGE},
    "restore-there": guest(101),
    "restore-there-start": guest(101, "VM.PowerMgmt"),
    "restore-there-name": guest(101),
    "restore-container": {
        "/vms/200": "VM.Backup",
        **SHARED,
        "/vms/250": "VM.Allocate VM.Audit VM.Config.Network",
        **LVM,
        **BRIDGE,
    },
    "restore-container-over": {**guest(200, "VM.Backup", "VM.PowerMgmt"), **SHARED, **LVM, **BRIDGE},
    "backup_job-create": {"/": "Sys.Audit Sys.Modify", "/storage/shared": "Datastore.Allocate"},
    "backup_job-create-pool": {**JOB, "/pool/prod": "VM.Backup"},
    "backup_job-change": JOB,
    "backup_job-select": JOB,
    "backup_job-select-pool": {**JOB, "/pool/prod": "VM.Backup"},
    "backup_job-unset": JOB,
    "backup_job-same": {"/": "Sys.Audit"},
    "backup_job-remove": {"/": "Sys.Audit Sys.Modify"},
    "backup_job-gone": {"/": "Sys.Audit"},
}


GRANTS: Mapping[str, Grants] = {
    **MANAGING,
    **BACKUPS,
    "task_info-all": {"/nodes/pve1": "Sys.Audit", "/nodes/pve2": "Sys.Audit"},
    "task_info-one": {"/nodes/pve1": "Sys.Audit"},
    "task_info-locks": {**guest(101), "/nodes/pve1": "Sys.Audit", "/nodes/pve2": "Sys.Audit"},
    "vm_info-all": guest(100),
    "vm_info-one": guest(100),
    "vm_info-agent": guest(100, "VM.GuestAgent.Audit"),
    "vm_info-container": guest(200),
    "storage_content-upload": {"/storage/shared": "Datastore.AllocateTemplate Datastore.Audit"},
    "storage_content-fetch": {
        "/storage/shared": "Datastore.AllocateTemplate Datastore.Audit",
        "/nodes/pve1": "Sys.AccessNetwork",
    },
    "storage_content-template": {"/storage/local": "Datastore.AllocateTemplate Datastore.Audit"},
    "storage_content-there": {"/storage/shared": "Datastore.Audit"},
    "storage_content-replace": {
        "/storage/shared": "Datastore.Allocate Datastore.AllocateTemplate Datastore.Audit",
        "/nodes/pve1": "Sys.AccessNetwork",
    },
    "storage_content-upload-changed": {"/storage/shared": "Datastore.AllocateTemplate Datastore.Audit"},
    "storage_content-absent": {"/storage/shared": "Datastore.Allocate Datastore.Audit"},
    "storage_content-gone": {"/storage/shared": "Datastore.Audit"},
    "storage_content-all": {"/storage/shared": "Datastore.Audit"},
    "template_info-all": {"/vms/9000": AUDIT, "/storage/shared": "Datastore.Audit"},
    "api-read": {"/": "Sys.Audit"},
    "api-object": {"/pool/test": "Pool.Allocate Pool.Audit"},
    "api-ha": {"/": "Sys.Audit Sys.Console"},
    "api-ha-there": {"/": "Sys.Audit"},
    "api-config": guest(101, "VM.Config.CPU", "VM.Config.Options"),
    "api-config-there": guest(101),
    "api-create": {"/pool/new": "Pool.Allocate Pool.Audit"},
    "api-create-there": {"/pool/test": "Pool.Audit"},
    "api-delete": {"/pool/test": "Pool.Allocate Pool.Audit"},
    "api-deleted": {"/pool/none": "Pool.Audit"},
    "api-deed": {"/vms/100": "VM.PowerMgmt"},
    "node_info-all": everywhere("Sys.Audit"),
    "cluster_info-all": {"/": "Sys.Audit"},
    "metrics_info-guest": guest(100),
    "metrics_info-node": {"/nodes/pve2": "Sys.Audit"},
    "metrics_info-storage": {"/storage/local-lvm": "Datastore.Audit"},
    "capacity_info-disk": {**everywhere("Sys.Audit"), "/storage/shared": "Datastore.Audit"},
}


def scenarios() -> list[Scenario]:
    """Return the scenarios, one of each name."""
    return list({str(scenario): scenario for scenario in SCENARIOS}.values())


def pairs(grants: Grants) -> list[tuple[str, str]]:
    """Return each path with each privilege on it."""
    return [(path, privilege) for path, text in grants.items() for privilege in text.split()]

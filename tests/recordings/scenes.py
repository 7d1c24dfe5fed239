"""Where the recorded runs began, and what happened between two recorded exchanges.

The numbers are those of the exchanges' names. A step runs before the exchange that it is named by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.simulator import Cluster
from tests.simulator.access import Pool
from tests.simulator.engine.clock import Clock
from tests.simulator.engine.ha import Ha
from tests.simulator.engine.model import Volume
from tests.simulator.engine.resources import broadcast

from .replay import Run, Step

# 50 MiB in GiB, the disk of every VM of the recordings.
DISK = "0.048828125"
VM = {
    "agent": "1",
    "cores": "1",
    "memory": "160",
    "net0": "virtio,bridge=vmbr0",
    "ostype": "l26",
    "scsihw": "virtio-scsi-single",
    "serial0": "socket",
}
EVERYTHING = ("backup", "images", "iso", "rootdir", "snippets", "vztmpl", "import")


def start(file: str, clock: Clock | None = None) -> Run:
    """The cluster as the recorded run found it; its clock is a virtual one of those days unless another is given."""
    return (
        _single_node(clock or Clock(1795189930.0)) if file == "single-node" else _cluster(clock or Clock(1795189330.0))
    )


def _users(cluster: Cluster) -> Run:
    access = cluster.access
    for user, name, privsep in (
        ("root@pam", "lab", False),
        ("root@pam", "sep", True),
        ("viewer@pve", "ro", False),
        ("limited@pve", "lim", True),
    ):
        access.add_token(user, name, privsep=privsep)
    access.pools["labpool"] = Pool("lab pool" if cluster.entry == "pve1" else "")
    access.set_acl("/", "viewer@pve", "PVEAuditor")
    access.set_acl("/pool/labpool", "limited@pve", "PVEVMAdmin")
    access.set_acl("/vms/100", "limited@pve", "PVEVMUser")
    access.set_acl("/vms/100", "limited@pve!lim", "PVEVMUser")
    owners = {
        "full": ("root@pam", "lab"),
        "sep": ("root@pam", "sep"),
        "ro": ("viewer@pve", "ro"),
        "lim": ("limited@pve", "lim"),
    }
    tokens = {short: cluster.token_header(*owner)["Authorization"] for short, owner in owners.items()}
    return Run(cluster, tokens)


def _single_node(clock: Clock) -> Run:
    cluster = Cluster(nodes=["pve1"], name="", setup=False, clock=clock)
    cluster.nodes["pve1"].bridges = ("vmbr0",)
    cluster.nodes["pve1"].ip = "10.99.0.1"
    cluster.nodes["pve1"].maxcpu = 2
    cluster.add_storage("local", "dir", content=EVERYTHING, path="/var/lib/vz")
    cluster.add_storage("fast", "dir", content=("rootdir", "images"), path="/mnt/fast", is_mountpoint="no")
    cluster.add_template(9000, "tiny-template", config=VM, disk=f"local:{DISK},format=qcow2")
    image = Volume("local:import/tiny.qcow2", 50 * 1024**2, "qcow2", "import", None, int(cluster.now))
    cluster.storages.volumes["pve1", image.volid] = image
    return _users(cluster)


def _cluster(clock: Clock) -> Run:
    cluster = Cluster(nodes=["pvea", "pveb", "pvec"], name="labcluster", setup=False, clock=clock)
    for node in cluster.nodes.values():
        node.bridges, node.maxcpu = ("vmbr0",), 2
    cluster.add_storage("local", "dir", content=EVERYTHING, path="/var/lib/vz")
    cluster.add_storage(
        "shared", "dir", content=("iso", "rootdir", "images", "snippets"), path="/mnt/shared", shared=True
    )
    cluster.add_template(9000, "tiny-template", config=VM, disk=f"shared:{DISK},format=qcow2")
    run = _users(cluster)
    run.task("POST", "/nodes/pvea/qemu/9000/clone", newid=301, name="m1", full=1, storage="local")
    run.task("POST", "/nodes/pvea/qemu/9000/clone", newid=302, name="m2")
    return run


def _start(run: Run, vmid: int, node: str = "pve1", boot: float = 0.0) -> None:
    run.task("POST", f"/nodes/{node}/qemu/{vmid}/status/start")
    run.wait(boot)


def _stop(run: Run, vmid: int, node: str = "pve1") -> None:
    run.task("POST", f"/nodes/{node}/qemu/{vmid}/status/stop")
    # A start within the next second would meet the lock of qm cleanup.
    run.wait(1.5)


def _destroy(run: Run, vmid: int, node: str = "pve1") -> None:
    run.task("DELETE", f"/nodes/{node}/qemu/{vmid}")


def _config(run: Run, vmid: int, **params: Any) -> None:
    run.send("PUT", f"/nodes/pve1/qemu/{vmid}/config", **params)


# --- one node ------------------------------------------------------------------------------------------------------------


def _before_066(run: Run) -> None:
    _destroy(run, 110)


def _before_102(run: Run) -> None:
    _start(run, 100)


def _boot(run: Run) -> None:
    run.wait(8.0)


def _before_127(run: Run) -> None:
    run.task("POST", "/nodes/pve1/qemu/100/status/resume")


def _broadcast(run: Run) -> None:
    run.wait(11.0)


def _before_137(run: Run) -> None:
    _start(run, 102)
    _config(run, 100, cores=2, memory=256, cpu="x86-64-v2-AES")


def _before_149(run: Run) -> None:
    _config(run, 100, revert="cores,memory,cpu")


def _before_157(run: Run) -> None:
    _config(run, 100, net1="virtio,bridge=vmbr0")
    _config(run, 100, scsi1="fast:1,format=qcow2")


def _before_219(run: Run) -> None:
    # A live rollback; its lock of the next half minute has been waited for.
    run.task("POST", "/nodes/pve1/qemu/100/snapshot/s1/rollback")
    run.wait(31.0)


def _before_226(run: Run) -> None:
    run.wait(11.0)
    _stop(run, 102)
    run.cluster.set_lock(102, "backup")


def _before_242(run: Run) -> None:
    run.cluster.set_lock(102, None)
    run.notes["held"] = run.cluster.hold_lock(102)


def _before_246(run: Run) -> None:
    run.notes.pop("held").release()


def _before_273(run: Run) -> None:
    _config(run, 120, delete="scsi0")


def _before_281(run: Run) -> None:
    run.until(0x6B006D4D)
    upid = run.send("POST", "/nodes/pve1/qemu/9000/clone", newid=124, full=1, bwlimit=2048)
    run.upids["UPID:pve1:000002A4:000642EB:6B006D4D:qmclone:9000:root@pam!lab:"] = upid
    run.wait(1.0)


def _before_284(run: Run) -> None:
    # pvestatd's round fell between the calls.
    broadcast(run.cluster, "pve1")


def _before_287(run: Run) -> None:
    upid = run.upids["UPID:pve1:000002A4:000642EB:6B006D4D:qmclone:9000:root@pam!lab:"]
    path = f"/nodes/pve1/tasks/{upid.replace('!', '%21').replace(':', '%3A').replace('@', '%40')}"
    run.send("DELETE", path)
    run.finish(upid)


def _before_291(run: Run) -> None:
    scsi0 = run.send("GET", "/nodes/pve1/qemu/102/config")["scsi0"]
    _config(run, 102, scsi0=f"{scsi0},iothread=1")


def _before_295(run: Run) -> None:
    # An empty disk: nothing in the guest listens to ACPI.
    run.cluster.guests[102].behaviour.acpi = False


def _before_310(run: Run) -> None:
    _stop(run, 100)
    run.until(0x6B006D66)
    _start(run, 100, boot=12.0)
    run.until(0x6B006D77)
    run.task("POST", "/nodes/pve1/qemu/100/status/reboot")


def _before_311(run: Run) -> None:
    run.wait(3.0)


def _before_322(run: Run) -> None:
    run.wait(8.0)


def _before_332(run: Run) -> None:
    run.until(0x6B006DDB - 12)
    _start(run, 100)


def _before_344(run: Run) -> None:
    run.until(0x6B006E01)
    _stop(run, 100)


def _before_347(run: Run) -> None:
    # The recorded backup had failed.
    volumes = run.cluster.storages.volumes
    for key in [key for key, volume in volumes.items() if volume.content == "backup"]:
        del volumes[key]


def _before_394(run: Run) -> None:
    for vmid in (121, 120):
        _destroy(run, vmid)
    run.wait(11.0)


def _before_501(run: Run) -> None:
    run.until(0x6B006ECE - 20)
    run.task("POST", "/nodes/pve1/qemu/9000/clone", newid=100, name="web01", full=1)


def _before_514(run: Run) -> None:
    _start(run, 100, boot=10.0)


def _before_516(run: Run) -> None:
    run.wait(2.0)


def _before_524(run: Run) -> None:
    upid = run.upids["UPID:pve1:0000012D:0006E00A:6B006EDF:vzdump:100:root@pam!lab:"]
    run.finish(upid)


def _before_526(run: Run) -> None:
    volumes = run.cluster.storages.volumes.values()
    oldest = min((volume for volume in volumes if volume.content == "backup"), key=lambda volume: volume.ctime)
    run.names["local:backup/vzdump-qemu-100-2026_11_20-16_01_18.vma.zst"] = oldest.volid


def _before_546(run: Run) -> None:
    _config(run, 100, memory=256, delete="serial0")


def _before_549(run: Run) -> None:
    _stop(run, 100)


def _before_551(run: Run) -> None:
    _start(run, 100, boot=5.0)


def _before_557(run: Run) -> None:
    run.send("PUT", "/pools/labpool", vms=100)


def _before_562(run: Run) -> None:
    run.task("POST", "/nodes/pve1/qemu/100/snapshot", snapname="tt")


# --- three nodes -----------------------------------------------------------------------------------------------------------


def _before_032(run: Run) -> None:
    run.task("POST", "/nodes/pvea/qemu/301/migrate", target="pveb")


def _before_037(run: Run) -> None:
    run.task("POST", "/nodes/pvea/qemu/9000/migrate", target="pveb")


def _before_040(run: Run) -> None:
    _start(run, 301, "pveb")


def _before_050(run: Run) -> None:
    _start(run, 302, "pvea", boot=6.0)
    run.until(0x6B006A92)
    # Its memory takes a while, so that there is a time during the migration.
    run.cluster.durations.migrate_seconds_per_gib = 40.0
    upid = run.send("POST", "/nodes/pvea/qemu/302/migrate", target="pveb", online=1)
    run.upids["UPID:pvea:00000143:000531DE:6B006A92:qmigrate:302:root@pam!lab:"] = upid
    run.wait(1.0)


def _before_058(run: Run) -> None:
    run.cluster.durations.migrate_seconds_per_gib = 1.0
    run.until(1795189400.0)


def _before_061(run: Run) -> None:
    run.wait(25.0)


def _wait_for_ha(run: Run) -> None:
    run.wait(25.0)


def _before_082(run: Run) -> None:
    run.wait(40.0)


def _before_090(run: Run) -> None:
    run.send("DELETE", "/cluster/ha/resources/vm:302")
    run.cluster.node_down("pvec")


def _before_094(run: Run) -> None:
    run.wait(120.0)


def _before_098(run: Run) -> None:
    run.cluster.no_quorum()


def _before_201(run: Run) -> None:
    # Another run, on the cluster made anew.
    cluster = run.cluster
    cluster.quorate = True
    cluster.ha = Ha(cluster)
    for name in ("pveb", "pvec"):
        cluster.node_up(name)
    for vmid in (301, 302, 303):
        run.task("DELETE", f"/nodes/{cluster.guests[vmid].node}/qemu/{vmid}")
    cluster.add_storage("fast", "dir", content=("rootdir", "images"), path="/mnt/fast")
    run.wait(11.0)
    run.task("POST", "/nodes/pvea/qemu/9000/clone", newid=401, name="onc", target="pvec")
    _start(run, 401, "pvec")
    cluster.node_down("pvec", "timeout")
    # Nothing that pvec's pvestatd says of it arrives any more.
    cluster.guests[401].stat = None


def _before_206(run: Run) -> None:
    run.cluster.node_up("pvec")


BEFORE: Mapping[str, Mapping[str, Step]] = {
    "single-node": {
        "066": _before_066,
        "102": _before_102,
        "110": _boot,
        "127": _before_127,
        "130": _broadcast,
        "137": _before_137,
        "149": _before_149,
        "157": _before_157,
        "219": _before_219,
        "226": _before_226,
        "242": _before_242,
        "246": _before_246,
        "273": _before_273,
        "281": _before_281,
        "284": _before_284,
        "287": _before_287,
        "291": _before_291,
        "295": _before_295,
        "310": _before_310,
        "311": _before_311,
        "322": _before_322,
        "332": _before_332,
        "344": _before_344,
        "347": _before_347,
        "394": _before_394,
        "501": _before_501,
        "514": _before_514,
        "516": _before_516,
        "524": _before_524,
        "526": _before_526,
        "545": _boot,
        "546": _before_546,
        "549": _before_549,
        "551": _before_551,
        "557": _before_557,
        "562": _before_562,
    },
    "cluster": {
        "032": _before_032,
        "037": _before_037,
        "040": _before_040,
        "050": _before_050,
        "058": _before_058,
        "061": _before_061,
        "068": _wait_for_ha,
        "073": _wait_for_ha,
        "082": _before_082,
        "083": _broadcast,
        "090": _before_090,
        "094": _before_094,
        "098": _before_098,
        "201": _before_201,
        "203": _boot,
        "206": _before_206,
    },
}


def _nobody(run: Run) -> Mapping[str, str]:
    return {"Cookie": "PVEAuthCookie=PVE:root@pam:6B006CB2::nonsense"}


def _wrong_csrf(run: Run) -> Mapping[str, str]:
    return {**run.ticket(), "CSRFPreventionToken": "6B006CB2:nonsense"}


# How the calls without a token were made.
HEADERS: Mapping[str, Callable[[Run], Mapping[str, str]]] = {
    "012-bad-ticket": _nobody,
    "014-wrong-csrf": _wrong_csrf,
    "015-csrf-in-ok-nextid": Run.ticket,
    "241-locked-start-skiplock-ticket": Run.ticket,
}


def _upload(filename: str) -> bytes:
    part = '--XXBOUND\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n'
    head = f'--XXBOUND\r\nContent-Disposition: form-data; name="filename"; filename="{filename}"\r\n'
    kind = "Content-Type: application/octet-stream\r\n\r\n"
    return (part + head + kind).encode() + b"\0" * 65536 + b"\r\n--XXBOUND--\r\n"


# Bodies that the recordings do not hold.
BODIES: Mapping[str, bytes] = {"540-upload-iso": _upload("t.iso"), "543-upload-bad-ext": _upload("t.exe")}

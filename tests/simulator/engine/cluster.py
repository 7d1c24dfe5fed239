# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster: its state, the way of a request through it, and helpers that set up what tests need.

The order of checks is the server's (pve-manager, PVE/HTTPServer.pm, rest_handler): authentication, CSRF, handler, permission,
proxying to the node, parameters, code.

The code runs in a worker of the node: pveproxy and pvedaemon have three each (PVE/Service/pveproxy.pm, PVE/Service/pvedaemon.pm,
max_workers), and a worker does one thing at a time. Methods that the schema calls `protected` are pvedaemon's, all others
pveproxy's. What is passed on to another node or to pvedaemon is given up by the proxy after thirty seconds with 596
(pve-http-server, PVE/APIServer/AnyEvent.pm, proxy_request), and is done nevertheless, also where it was still waiting for a worker.
Tasks are forked and take no worker.
"""

from __future__ import annotations

import copy
import inspect
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, NamedTuple

from .. import access, schema
from . import (
    agent,
    backup,
    backup_jobs,
    clone,
    datacenter,
    extract,
    guests,
    ha,
    identity,
    lxc_config,
    lxc_create,
    lxc_disks,
    lxc_migrate,
    lxc_power,
    lxc_snapshots,
    pools,
    qemu_config,
    qemu_create,
    qemu_disks,
    qemu_migrate,
    qemu_move,
    qemu_power,
    qemu_snapshots,
    qemu_status,
    resources,
    rrd,
    storage,
    tasks,
    transfer,
)
from .clock import Clock, Held, Lock, Scheduler, Sleep, Steps
from .faults import AT_FORK, Fault
from .http import (
    ApiError,
    Json,
    Reply,
    Request,
    Response,
    bad_parameters,
    die,
    failure,
    parameters,
    split_target,
    success,
)
from .model import GIB, Behaviour, Durations, Guest, Kind, Node, Power, Storage

VERSION = {"version": "9.2.11", "release": "9.2", "repoid": "14a22df35955d97d"}
CONFIG_LOCK_SECONDS = 10.0
WORKERS = 3  # of each daemon on each node
PROXY_SECONDS = 30.0


class Entry(NamedTuple):
    """A request that was seen."""

    method: str
    template: str  # of the schema; empty when there is none
    path: str
    status: int
    time: float


class Log(list[Entry]):
    """Every request seen, in order."""

    def writes(self) -> list[Entry]:
        """Those that are no GET."""
        return [entry for entry in self if entry.method != "GET"]


@dataclass
class Call:
    """A request that has passed all checks before its code."""

    cluster: Cluster
    authid: str
    params: dict[str, Json]
    by_token: bool = False
    extra: dict[str, Json] = field(default_factory=dict)
    raw: dict[str, Json] = field(default_factory=dict)  # the parameters as they came
    entry: str = ""  # the node that the request arrived at

    @property
    def node(self) -> str:
        """The node in the path."""
        return str(self.params["node"])

    @property
    def vmid(self) -> int:
        """The guest in the path."""
        return int(self.params["vmid"])

    @property
    def root(self) -> bool:
        """Whether it is root@pam itself."""
        return self.authid == access.ROOT

    def allowed(self, path: str, *privileges: str) -> bool:
        """Whether the caller has all privileges."""
        return self.cluster.access.allowed(self.authid, path, privileges)

    def allowed_any(self, path: str, *privileges: str) -> bool:
        """Whether the caller has one of the privileges."""
        return self.cluster.access.allowed(self.authid, path, privileges, True)

    def check(self, path: str, *privileges: str) -> None:
        """403 unless the caller has all privileges."""
        self.cluster.access.check(self.authid, path, privileges)

    def root_only(self, *names: str) -> None:
        """400 for parameters that only root@pam may use."""
        self.cluster.access.check_root_only(self.authid, self.params, names)

    def task(self, type_: str, id_: str | int, body: tasks.Body, undo: Callable[[], None] | None = None) -> str:
        """Start a task of the caller on the node in the path. Returns the UPID."""
        return self.cluster.tasks.start(self.node, type_, id_, self.authid, body, undo)


# What every node answers about every other: methods without `proxyto`.
ANYWHERE = ("/nodes/{node}/rrddata", "/{vmid}/rrddata")

Handler = Callable[[Call], Any]
ROUTES: dict[tuple[str, str], Handler] = {}


class Cluster:
    """A Proxmox VE cluster in one process.

    Args:
        nodes: names; the first one answers requests unless told otherwise.
        seed: of everything that is random.
        clock: virtual time; the default stands until it is advanced or a request takes its time.
        name: of the cluster; a single node has none.
        durations: how long things take.
        setup: whether the usual storages, users and tokens are there: storages local (dir), local-lvm (lvmthin), shared (nfs) and
            san (lvm, shared, without snapshots), and the token root@pam!keel.
    """

    def __init__(
        self,
        *,
        nodes: Sequence[str] = ("pve1", "pve2", "pve3"),
        seed: int = 0,
        clock: Clock | None = None,
        name: str | None = None,
        durations: Durations | None = None,
        setup: bool = True,
    ) -> None:
        self.clock = clock or Clock()
        self.scheduler = Scheduler(self.clock)
        self.random = random.Random(seed)
        self.durations = durations or Durations()
        self.name = name if name is not None else ("keel" if len(nodes) > 1 else "")
        self.schema = schema.load()
        self.access = access.Access(seed=seed, cluster_name=self.name)
        booted = self.clock.now() - 3600
        self.nodes = {
            node: Node(node, number if len(nodes) > 1 else 0, f"10.99.0.{10 + number}", booted)
            for number, node in enumerate(nodes, 1)
        }
        self.entry = nodes[0]
        self._quorate = True
        self.guests: dict[int, Guest] = {}
        self._written: dict[int, Guest] = {}  # the configuration files while nothing can be written
        self.storages = storage.Storages(self)
        self.tasks = tasks.Tasks(self)
        self.tag_style: dict[str, str] = {}  # of datacenter.cfg: case-sensitive, ordering
        self.log = Log()
        self.unmodelled: list[str] = []
        self.faults: list[Fault] = []
        self.stuck_volumes: dict[str, str] = {}  # volumes that cannot be removed, and why
        self.broken_snapshots: dict[str, str] = {}  # volumes whose snapshots fail, and why
        self.archives: dict[str, tuple[dict[str, str], str]] = {}  # backup -> configuration and kind of guest
        self.backup_jobs: dict[str, dict[str, Any]] = {}  # of jobs.cfg
        self.web: dict[str, transfer.WebFile] = {}  # what the nodes find at an address
        self.downloaded: dict[tuple[str, str], transfer.WebFile] = {}  # volumes that came from there
        self._locks: dict[tuple[str, str], Lock] = {}
        self._workers: dict[tuple[str, str], Lock] = {}
        self._changed: set[int] = set()
        self.ha = ha.Ha(self)
        for offset, node in enumerate(self.nodes):
            self.scheduler.every(
                self.durations.statd,
                lambda node=node: resources.broadcast(self, node),  # type: ignore[misc]
                first=self.durations.statd * (offset + 1) / len(self.nodes),
            )
        if setup:
            self._usual()

    def _usual(self) -> None:
        everything = ("backup", "images", "import", "iso", "rootdir", "snippets", "vztmpl")
        self.add_storage("local", "dir", content=everything, path="/var/lib/vz", size=250 * GIB)
        self.add_storage("local-lvm", "lvmthin", content=("images", "rootdir"), size=500 * GIB)
        self.add_storage("shared", "nfs", content=everything, path="/mnt/pve/shared", shared=True, size=4096 * GIB)
        self.add_storage("san", "lvm", content=("images", "rootdir"), shared=True, size=2048 * GIB)
        self.add_token("root@pam", "keel", privsep=False)

    @property
    def now(self) -> float:
        """Virtual time, in seconds since the epoch."""
        return self.scheduler.now

    @property
    def quorate(self) -> bool:
        """Whether the cluster has quorum; /etc/pve is read-only while it has none."""
        return self._quorate

    @quorate.setter
    def quorate(self, value: bool) -> None:
        if self._quorate and not value:
            self._written = copy.deepcopy(self.guests)
        self._quorate = value

    def stamp(self, when: float | None = None) -> str:
        """A time as logs have it."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.now if when is None else when))

    # ------------------------------------------------------------------------------------------------------------------
    # Requests

    def handle(self, request: Request, entry: str | None = None) -> Response:
        """Answer a request that arrives at a node (the first one by default).

        The virtual clock stands at the end of the request's time when this returns; it never sleeps.
        """
        with self.scheduler.lock:
            self.scheduler.catch_up()
            process = self.scheduler.spawn(self.serve(request, entry))
            while not process.done:
                self.clock.advance(self.scheduler.until_next() or 0.0)
            assert process.result is not None
            return process.result

    def serve(self, request: Request, entry: str | None = None) -> Steps[Response]:
        """A request as a process: for a shell that lets real time pass between its steps."""
        began = self.now
        path, query = split_target(request.path)
        fault = next((fault for fault in self.faults if fault.strikes(request.method, path)), None)
        template = [""]
        try:
            if fault is not None:
                self._before(fault, path, entry or self.entry)
            reply = yield from self._answer(request, path, query, entry or self.entry, template)
            response = success(reply, self.now - began)
        except ApiError as error:
            yield Sleep(error.seconds)
            response = failure(error, self.now - began)
        except _Intercepted:
            response = PAGE
        except _Dropped:
            response = Response(
                0, "", drop="refused" if fault is not None and fault.kind == "refused" else "reset_before"
            )
        if fault is not None and fault.kind in AT_FORK:
            # A request that starts no task leaves none to strike.
            self.tasks.start_failures.clear()
        if fault is not None and fault.when == "after":
            response = self._after(fault, path, entry or self.entry, response)
            # A proxy gives up after thirty seconds, whatever goes on behind it.
            yield Sleep(max(0.0, response.seconds - (self.now - began)))
        elif fault is not None and fault.kind == "silence":
            response = Response(0, "", drop="silence")
        elif fault is not None and fault.kind == "truncate":
            response = replace(response, drop="truncate")
        if response.status:
            response = replace(response, headers={**response.headers, "Date": formatdate(self.now, usegmt=True)})
        self.log.append(Entry(request.method, template[0], path, response.status, began))
        return response

    def _before(self, fault: Fault, path: str, entry: str) -> None:
        """Strike before the effect. Raises ApiError or _Dropped."""
        kind = fault.kind
        if kind in AT_FORK:
            self.tasks.start_failures.append(str(kind))
        elif fault.when == "after":
            return
        elif kind in ("refused", "reset", "silence"):
            raise _Dropped
        elif kind == "html":
            raise _Intercepted
        elif kind == "broken":
            raise die(BROKEN)
        elif kind == "no_quorum":
            self.lose_quorum(20.0)
        elif kind in (401, "ticket_expired"):
            raise ApiError(401, "Authentication failed!", empty=True, seconds=3.0)
        elif kind == "lock_timeout":
            vmid = next((part for part in path.split("/") if part.isdigit()), "100")
            raise replace_seconds(die(f"can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"), 10.0)
        elif kind == "node_gone":
            node = self._node_of(path, entry)
            self.node_down(node)
            if node == entry:
                raise _Dropped
        elif isinstance(kind, int):
            raise ApiError(
                kind, _PROXY_TEXT.get(kind, "Broken pipe"), empty=True, seconds=_PROXY_SECONDS.get(kind, 0.0)
            )

    def _node_of(self, path: str, entry: str) -> str:
        return path.split("/")[2] if path.startswith("/nodes/") else entry

    def _after(self, fault: Fault, path: str, entry: str, response: Response) -> Response:
        """Replace the answer after the effect."""
        kind = fault.kind
        if kind == "reset":
            return Response(0, "", drop="reset_after", seconds=response.seconds)
        if kind == "silence":
            return Response(0, "", drop="silence", seconds=response.seconds)
        if kind == "truncate":
            return replace(response, drop="truncate")
        if kind == "html":
            return replace(PAGE, seconds=response.seconds)
        if isinstance(kind, int):
            # A proxy gives up after thirty seconds while the job goes on.
            seconds = max(response.seconds, _PROXY_SECONDS.get(kind, 0.0))
            return Response(kind, _PROXY_TEXT.get(kind, "Broken pipe"), {}, b"", seconds)
        if kind == "node_gone":
            node = self._node_of(path, entry)
            self.node_down(node)
            if node == entry:
                return Response(0, "", drop="reset_after", seconds=response.seconds)
            return Response(596, _PROXY_TEXT[596], {}, b"", response.seconds)
        return response

    def _answer(self, request: Request, path: str, query: str, entry: str, template: list[str]) -> Steps[Reply]:
        try:
            endpoint, handler, call = self._checked(request, path, query, entry, template)
        except ApiError as error:
            error.seconds += self.durations.request
            raise
        node = entry if call.params.get("node") in (None, "localhost") else call.node
        daemon = "pvedaemon" if endpoint.protected else "pveproxy"
        job = self.scheduler.spawn(self._work(self.workers(node, daemon), handler, call))
        passed_on = endpoint.protected or node != entry
        if not (yield from job.wait(PROXY_SECONDS if passed_on else math.inf)):
            raise ApiError(596, _PROXY_TEXT[596], empty=True)
        if job.error is not None:
            raise job.error
        assert job.result is not None
        return job.result

    def workers(self, node: str, daemon: str) -> Lock:
        """The workers of a node's pveproxy or pvedaemon."""
        key = (node, daemon)
        if key not in self._workers:
            self._workers[key] = Lock(self.scheduler, "", WORKERS)
        return self._workers[key]

    def _work(self, workers: Lock, handler: Handler, call: Call) -> Steps[Reply]:
        """The code of a method in one of the workers."""
        with (yield from workers.acquire(math.inf)):
            try:
                result = handler(call)
                if inspect.isgenerator(result):
                    result = yield from result
            except ApiError as error:
                yield Sleep(error.seconds + self.durations.request)
                error.seconds = 0.0
                raise
            yield Sleep(self.durations.request)
            return result if isinstance(result, Reply) else Reply(result)

    def _checked(
        self, request: Request, path: str, query: str, entry: str, template: list[str]
    ) -> tuple[schema.Endpoint, Handler, Call]:
        """What is checked before a method's code runs. Raises ApiError."""
        header = {name: request.header(name) for name in ("cookie", "authorization", "csrfpreventiontoken")}
        # pve-http-server authenticates before it looks at anything else.
        caller = self.access.authenticate(request.method, path, header, self.now)
        raw = parameters(request, query)
        raw.pop("_dc", None)
        found = self.schema.find(request.method, path)
        if found is None:
            raise ApiError(501, f"Method '{request.method} {path}' not implemented", newline=False)
        endpoint, in_path = found
        template[0] = endpoint.template
        extra = {name: raw.pop(name) for name in list(raw) if name.startswith("_")}
        for name, value in in_path.items():
            if name in raw and raw[name] != value:
                raise bad_parameters({name: "duplicate parameter (already defined in URI) with conflicting values!"})
            raw[name] = value
        self.access.check_token_allowed(caller, endpoint.allowtoken, path)
        self.access.check_endpoint(caller.user, endpoint.permissions, raw)
        if "{node}" in endpoint.template and not endpoint.template.endswith(ANYWHERE):
            self._proxy(entry, str(raw["node"]))
        values, errors = endpoint.check(raw)
        if errors:
            raise bad_parameters(errors)
        handler = ROUTES.get((request.method, endpoint.template))
        if handler is None:
            self.unmodelled.append(f"{request.method} {endpoint.template}")
            raise ApiError(501, f"the simulator does not model {request.method} {endpoint.template}", newline=False)
        return endpoint, handler, Call(self, caller.user, values, caller.by_token, extra, raw, entry)

    def _proxy(self, entry: str, name: str) -> None:
        """Forward to the node of the path."""
        if name in ("localhost", entry):
            return
        node = self.nodes.get(name)
        if node is None:
            what = f"failed to get address info for: {name}: Temporary failure in name resolution"
            raise die(f"hostname lookup '{name}' failed - {what}")
        if node.online:
            return
        if node.unreachable == "refused":
            raise ApiError(595, "Connection refused", empty=True)
        if self.now - node.down_since < 30:
            raise ApiError(595, "Connection timed out", empty=True, seconds=30.0)
        raise ApiError(595, "No route to host", empty=True, seconds=3.0)

    # ------------------------------------------------------------------------------------------------------------------
    # What the code of the methods asks for

    def need_quorum(self) -> None:
        """500 without quorum (pve-cluster, check_cfs_quorum)."""
        if not self.quorate:
            raise die("cluster not ready - no quorum?")

    def need_node(self, name: str) -> Node:
        """A node of the cluster (pve-cluster, check_node_exists). Raises ApiError."""
        if name not in self.nodes:
            raise die(f"no such cluster node '{name}'")
        return self.nodes[name]

    def guest(self, kind: Kind, node: str, vmid: int) -> Guest:
        """A guest whose configuration is on a node (load_config). Raises ApiError."""
        guest = self.guests.get(vmid)
        if guest is None or guest.kind != kind or guest.node != node:
            directory = "qemu-server" if kind == "qemu" else "lxc"
            raise die(f"Configuration file 'nodes/{node}/{directory}/{vmid}.conf' does not exist")
        return guest

    def write(self, guest: Guest) -> None:
        """Note that a configuration file was written. Raises ApiError when /etc/pve is read-only, and the file is as it was."""
        if not self.quorate:
            self._unwrite(guest)
            name = f"/etc/pve/nodes/{guest.node}/{guest.directory}/{guest.vmid}.conf.tmp.{self.nodes[guest.node].pids}"
            raise die(f"unable to open file '{name}' - Permission denied")
        self._changed.add(guest.vmid)

    def _unwrite(self, guest: Guest) -> None:
        written = copy.deepcopy(self._written.get(guest.vmid))
        if written is None:
            self.guests.pop(guest.vmid, None)
            return
        for name in ("node", "config", "pending", "pending_delete", "snapshots", "cloudinit"):
            setattr(guest, name, getattr(written, name))

    def touched(self, vmid: int) -> None:
        """Something changed that pvestatd will broadcast."""
        self._changed.add(vmid)

    def take_changed(self) -> set[int]:
        """The guests that changed since pvestatd last looked."""
        return self._changed

    def config_lock(self, node: str, vmid: int) -> Lock:
        """The lock of a VM's configuration on a node."""
        return self.lock(node, f"/var/lock/qemu-server/lock-{vmid}.conf")

    def lock(self, node: str, path: str) -> Lock:
        """A lock file of a node."""
        key = (node, path)
        if key not in self._locks:
            self._locks[key] = Lock(self.scheduler, f"can't lock file '{path}' - got timeout")
        return self._locks[key]

    def lock_config(
        self, node: str, vmid: int, log: Callable[[str], None] | None = None, seconds: float = CONFIG_LOCK_SECONDS
    ) -> Steps[Held]:
        """Wait for a VM's configuration lock (pve-guest-common, AbstractConfig.pm lock_config)."""
        return self.config_lock(node, vmid).acquire(seconds, log=log)

    def new_mac(self) -> str:
        """A MAC address of Proxmox's prefix."""
        return "BC:24:11:" + ":".join(f"{self.random.randrange(256):02X}" for _rest in range(3))

    def new_uuid(self) -> str:
        """A random UUID."""
        digits = f"{self.random.getrandbits(128):032x}"
        variant = "89ab"[int(digits[16], 16) % 4]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    def ha_managed(self, vmid: int) -> bool:
        """Whether HA decides about this guest."""
        return self.ha.managed(vmid)

    # ------------------------------------------------------------------------------------------------------------------
    # Setting up, for tests

    def add_fault(self, fault: Fault) -> Fault:
        """Let something go wrong."""
        self.faults.append(fault)
        return fault

    def add_storage(
        self,
        name: str,
        type_: str = "dir",
        *,
        content: Iterable[str] = ("images", "rootdir"),
        nodes: Sequence[str] | None = None,
        shared: bool = False,
        path: str | None = None,
        size: int = 250 * GIB,
        used: int = 0,
        **options: str,
    ) -> Storage:
        """A storage. Snapshots depend on its type: lvm has none, files have them as qcow2."""
        has_files = type_ in ("dir", "nfs", "cifs", "cephfs", "btrfs")
        where = path if path is not None else (f"/mnt/pve/{name}" if has_files else "")
        made = Storage(
            name, type_, tuple(content), shared, tuple(nodes) if nodes else None, where, size, used, True, options
        )
        self.storages.all[name] = made
        return made

    def add_pool(self, poolid: str, comment: str = "", vms: Iterable[int] = ()) -> None:
        """A pool and its members."""
        self.access.pools[poolid] = access.Pool(comment, set(vms))
        self.access.changed()

    def add_token(
        self,
        user: str,
        name: str,
        *,
        privsep: bool = True,
        acl: Mapping[str, str] | None = None,
        secret: str = "",
    ) -> str:
        """A token, its user if need be, and roles by path for both. Returns the secret."""
        made = self.access.add_token(user, name, privsep=privsep, secret=secret)
        for path, role in (acl or {}).items():
            self.access.set_acl(path, user, role)
            self.access.set_acl(path, f"{user}!{name}", role)
        return made

    def token_header(self, user: str = "root@pam", name: str = "keel") -> dict[str, str]:
        """The header that a token is sent in."""
        return {"Authorization": f"PVEAPIToken={user}!{name}={self.access.users[user].tokens[name].secret}"}

    def add_vm(
        self,
        vmid: int,
        name: str | None = None,
        *,
        node: str | None = None,
        config: Mapping[str, str | int] | None = None,
        disk: str | None = "local:8",
        running: bool = False,
        settled: bool = True,
        behaviour: Behaviour | None = None,
    ) -> Guest:
        """A VM as `POST /nodes/{node}/qemu` would have made it.

        Args:
            config: more options, or other values; a drive `STORAGE:GIB` gets a volume.
            disk: short for scsi0.
            settled: whether pvestatd has already told of it.
        """
        return qemu_create.put(
            self, vmid, name or f"vm{vmid}", node or self.entry, dict(config or {}), disk, running, settled, behaviour
        )

    def add_template(self, vmid: int, name: str | None = None, **more: Any) -> Guest:
        """A VM that was made a template."""
        guest = self.add_vm(vmid, name, **{"disk": "local:2", **more})
        qemu_create.make_template(self, guest)
        resources.settle(self, guest)
        return guest

    def add_ct(
        self,
        vmid: int,
        name: str | None = None,
        *,
        node: str | None = None,
        config: Mapping[str, str | int] | None = None,
        disk: str | None = "local-lvm:4",
        running: bool = False,
        settled: bool = True,
        template: bool = False,
        behaviour: Behaviour | None = None,
    ) -> Guest:
        """A container as `POST /nodes/{node}/lxc` would have made it; `disk` is short for rootfs."""
        guest = lxc_create.put(
            self, vmid, name or f"ct{vmid}", node or self.entry, dict(config or {}), disk, running, settled, behaviour
        )
        if template:
            lxc_config.make_template(self, guest)
            resources.settle(self, guest)
        return guest

    def add_backup(
        self, vmid: int, storage: str = "local", *, age: float = 3600.0, notes: str = "", protected: bool = False
    ) -> str:
        """A backup of a guest as it stands, made some seconds ago. Returns its volume id."""
        return backup.put(self, self.guests[vmid], self.storages.all[storage], age, notes, protected)

    def add_snapshot(
        self, vmid: int, name: str, description: str = "", *, vmstate: bool = False, **config: str
    ) -> None:
        """A snapshot of a guest as it stands; options in `config` differ."""
        guest = self.guests[vmid]
        guests.take_snapshot(self, guest, name, description, vmstate=vmstate)
        guest.snapshots[name].update(config)

    def set_lock(self, vmid: int, lock: str | None) -> None:
        """Set or clear the lock in a guest's configuration."""
        guest = self.guests[vmid]
        if lock is None:
            guest.config.pop("lock", None)
        else:
            guest.config["lock"] = lock

    def hold_lock(self, vmid: int, seconds: float = 3600.0) -> Held:
        """Hold the lock file of a guest's configuration for some time, or until the result is released."""
        guest = self.guests[vmid]
        path = (
            f"/run/lock/lxc/pve-config-{vmid}.lock"
            if guest.kind == "lxc"
            else f"/var/lock/qemu-server/lock-{vmid}.conf"
        )
        held = self.lock(guest.node, path).take()
        self.scheduler.after(seconds, held.release)
        return held

    def hold_storage_lock(self, name: str, node: str | None = None, seconds: float = 3600.0) -> Held:
        """Hold a storage's lock."""
        held = self.storages.lock(self.storages.all[name], node or self.entry).take()
        self.scheduler.after(seconds, held.release)
        return held

    def node_down(self, name: str, how: str = "refused") -> None:
        """A node loses power (`refused`) or its network (`timeout`)."""
        node = self.nodes[name]
        node.online, node.down_since = False, self.now
        node.unreachable = "timeout" if how == "timeout" else "refused"
        if how == "refused":
            self.tasks.vanish(name)
            for guest in self.guests.values():
                if guest.node == name:
                    guest.power = None

    def node_up(self, name: str) -> None:
        """A node is back."""
        node = self.nodes[name]
        if node.unreachable == "refused":
            node.since = self.now
        node.online = True

    def no_quorum(self, others_down: bool = True) -> None:
        """The entry node is alone."""
        self.quorate = False
        if others_down:
            for name, node in self.nodes.items():
                if name != self.entry:
                    node.online, node.down_since = False, self.now

    def lose_quorum(self, seconds: float) -> None:
        """No quorum for some seconds; every node still answers."""

        def back() -> None:
            self.quorate = True

        self.quorate = False
        self.scheduler.after(seconds, back)

    def hang(
        self, vmid: int, type_: str = "qmclone", authid: str = "root@pam!keel", *, lines: Sequence[str] = ()
    ) -> str:
        """A task of a guest that never ends by itself. Returns its UPID."""

        def body(task: tasks.Task) -> Steps[None]:
            for line in lines:
                task.log(line)
            while True:
                yield Sleep(86400.0)

        return self.tasks.start(self.guests[vmid].node, type_, vmid, authid, body)

    def start_now(self, vmid: int) -> None:
        """Have a guest running, with nothing in the task list."""
        guest = self.guests[vmid]
        guest.power = Power(self.next_pid(guest.node), self.now - 60)
        resources.settle(self, guest)

    def next_pid(self, node: str) -> int:
        """A process id."""
        self.nodes[node].pids += 1
        return self.nodes[node].pids

    def state(self) -> dict[str, Any]:
        """All guests' configurations, volumes, power and pools as one plain value, without what is random or the hour."""

        def plain(config: Mapping[str, str]) -> dict[str, str]:
            return {key: guests.without_chance(key, value) for key, value in config.items()}

        return {
            "guests": {
                vmid: {
                    "kind": guest.kind,
                    "node": guest.node,
                    "config": plain(guest.config),
                    "pending": plain(guest.pending),
                    "pending_delete": dict(guest.pending_delete),
                    "snapshots": {name: plain(config) for name, config in guest.snapshots.items()},
                    "power": guest.power.qmp if guest.power else "stopped",
                    "inside": agent.state(guest),
                }
                for vmid, guest in sorted(self.guests.items())
            },
            "volumes": {
                f"{place}/{volid}": (volume.size, volume.format, volume.parent, list(volume.snapshots))
                for (place, volid), volume in sorted(self.storages.volumes.items())
                if volume.content != "backup"
            },
            "backups": sorted(
                (f"{place}/{volid.partition(':')[0]}", volume.vmid, volume.format, volume.notes, volume.protected)
                for (place, volid), volume in self.storages.volumes.items()
                if volume.content == "backup"
            ),
            "backup_jobs": copy.deepcopy(self.backup_jobs),
            "pools": {
                name: (sorted(pool.guests), sorted(pool.storages)) for name, pool in sorted(self.access.pools.items())
            },
        }

    def snapshot(self) -> dict[str, Any]:
        """The same as `state()`."""
        return copy.deepcopy(self.state())


class _Dropped(Exception):
    """The connection ends before the request has any effect."""


class _Intercepted(Exception):
    """Something in front of the cluster answers in its place."""


BROKEN = "the flux capacitor of this node is out of tune"
PAGE = Response(200, "OK", {"Content-Type": "text/html"}, b"<!DOCTYPE html><html><body>Please sign in</body></html>")

_PROXY_TEXT = {
    595: "No route to host",
    502: "Bad Gateway",
    504: "Gateway Timeout",
    596: "Connection timed out",
    597: "Connection reset by peer",
    599: "Too many redirections",
}
_PROXY_SECONDS = {504: 30.0, 596: 30.0}


def replace_seconds(error: ApiError, seconds: float) -> ApiError:
    """The same error after some seconds."""
    error.seconds = seconds
    return error


for module in (
    agent,
    backup,
    backup_jobs,
    clone,
    datacenter,
    extract,
    guests,
    ha,
    identity,
    lxc_config,
    lxc_create,
    lxc_disks,
    lxc_migrate,
    lxc_power,
    lxc_snapshots,
    pools,
    qemu_config,
    qemu_create,
    qemu_disks,
    qemu_migrate,
    qemu_move,
    qemu_power,
    qemu_snapshots,
    qemu_status,
    resources,
    rrd,
    storage,
    tasks,
    transfer,
):
    ROUTES.update(module.ROUTES)

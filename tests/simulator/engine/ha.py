# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""High availability: requests that are only queued, a manager that looks every ten seconds, and workers on each node.

Sources: pve-ha-manager, PVE/HA/Manager.pm (next_state_*), PVE/HA/LRM.pm, PVE/HA/Config.pm, PVE/HA/Resources/PVEVM.pm,
PVE/API2/HA/Resources.pm and PVE/API2/HA/Status.pm; qemu-server, PVE/API2/Qemu.pm and pve-container, PVE/API2/LXC.pm (hastart,
hastop, hamigrate).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .clock import Process, Sleep, Steps
from .http import die
from .model import Guest
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

FENCE_SECONDS = 120.0  # from a node's silence until its guests are started elsewhere


@dataclass
class Service:
    """What the manager knows of a guest."""

    node: str
    state: str  # request_start, started, request_stop, stopped, migrate, relocate, fence, error
    target: str | None = None
    timeout: int | None = None  # of a requested stop; 0 kills
    command: list[str] = field(default_factory=list)  # migrate NODE, relocate NODE, stop SECONDS
    running: bool = False  # has been seen running since it was last started
    failures: int = 0  # starts that failed on this node
    failed_nodes: list[str] = field(default_factory=list)
    worker: Process[None] | None = None
    result: bool | None = None  # how the worker ended, until the manager has looked at it
    silent_since: float | None = None


class Ha:
    """The HA stack of the cluster. It idles until a resource is configured."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.resources: dict[str, dict[str, Any]] = {}
        self.services: dict[str, Service] = {}
        self.looked = cluster.now
        self._awake = False
        self._acting: set[int] = set()  # guests whose API the stack itself is calling

    def sid(self, vmid: int) -> str:
        """`vm:100` or `ct:100`."""
        guest = self._cluster.guests.get(vmid)
        return f"{'ct' if guest is not None and guest.kind == 'lxc' else 'vm'}:{vmid}"

    def configured(self, vmid: int) -> bool:
        """Whether a guest is an HA resource, whatever its state (service_is_configured)."""
        return self.sid(vmid) in self.resources

    def managed(self, vmid: int) -> bool:
        """Whether HA decides about a guest (vm_is_ha_managed)."""
        return vmid not in self._acting and self._managed(vmid)

    def _managed(self, vmid: int) -> bool:
        resource = self.resources.get(self.sid(vmid))
        return resource is not None and resource.get("state") != "ignored"

    def state_of(self, vmid: int) -> str | None:
        """`hastate` in /cluster/resources."""
        sid = self.sid(vmid)
        if sid in self.services:
            return self.services[sid].state
        return self.resources[sid].get("state") if sid in self.resources else None

    def node_state(self, name: str) -> str | None:
        """`hastate` of a node in /cluster/resources; none before the manager has ever run."""
        if not self._awake:
            return None
        if self._cluster.nodes[name].online:
            return "online"
        return "fence" if any(service.node == name for service in self.services.values()) else "unknown"

    def status_of(self, vmid: int) -> dict[str, Any]:
        """`ha` in a guest's status/current (get_service_status)."""
        if not self._managed(vmid):
            return {"managed": 0}
        service = self.services.get(self.sid(vmid))
        return {"managed": 1, "state": service.state if service is not None else None}

    def forget(self, vmid: int) -> None:
        """A guest is destroyed with purge."""
        self.resources.pop(self.sid(vmid), None)

    def check_state(self, sid: str, wanted: str | None = None) -> None:
        """500 for a service in error, unless it is to be disabled (check_service_state)."""
        service = self.services.get(sid)
        if service is not None and service.state == "error" and wanted != "disabled":
            raise die(f"service '{sid}' in error state, must be disabled and fixed first")

    def queue(self, call: Call, type_: str, what: str, *, timeout: int = 0, **_more: Any) -> str:
        """Start the task that asks the manager to `start` or `stop` a guest, or for its `migration`. Returns the UPID.

        `timeout` is that of a graceful stop in seconds; 0 kills.
        """
        vmid = call.vmid
        sid, target = self.sid(vmid), str(call.params.get("target", ""))
        kind = "CT" if sid.startswith("ct:") else "VM"

        def body(task: Task) -> Steps[None]:
            task.log(f"Requesting HA {what} for {kind} {vmid}" + (f" to node {target}" if what == "migration" else ""))
            yield Sleep(0.3)
            if what == "start":
                command = f"ha-manager set {sid} --state started"
            elif what == "stop":
                command = f"ha-manager crm-command stop {sid} {timeout}"
            else:
                command = f"ha-manager migrate {sid} {target}"
            service = self.services.get(sid)
            if service is not None and service.state == "error":
                task.log(f"service '{sid}' in error state, must be disabled and fixed first")
                raise die(f"command '{command}' failed: exit code 255")
            if what == "start":
                self.resources[sid]["state"] = "started"
            elif service is not None:
                service.command = command.split()[-3:]

        return call.task(type_, vmid, body)

    # --- the manager and the workers -----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Begin to look after resources."""
        if self._awake:
            return
        self._awake = True
        cluster = self._cluster
        self.looked = cluster.now
        cluster.scheduler.every(cluster.durations.ha_crm, self._manage)
        for node in cluster.nodes:
            cluster.scheduler.every(cluster.durations.ha_lrm, lambda node=node: self._work_on(node))  # type: ignore[misc]

    def _manage(self) -> None:
        """A round of the manager (CRM)."""
        cluster = self._cluster
        if not cluster.quorate:
            return
        self.looked = cluster.now
        for sid in [sid for sid in self.services if sid not in self.resources]:
            del self.services[sid]
        for sid, resource in self.resources.items():
            guest = cluster.guests.get(int(sid.partition(":")[2]))
            if guest is None or resource.get("state") == "ignored":
                self.services.pop(sid, None)
                continue
            if sid not in self.services:
                self.services[sid] = Service(guest.node, "request_start" if _wants_start(resource) else "request_stop")
            self._next(sid, resource, self.services[sid], guest)

    def _next(self, sid: str, resource: dict[str, Any], service: Service, guest: Guest) -> None:
        result, service.result = service.result, None
        cluster = self._cluster
        if not cluster.nodes[service.node].online:
            self._fence(service, guest)
            return
        service.silent_since = None
        if service.state == "request_start":
            service.state, service.running = "started", False
        if service.state == "request_stop" and result is not None:
            service.state = "stopped" if result else "error"
        elif service.state in ("migrate", "relocate") and result is not None:
            if result and service.target is not None:
                service.node = service.target
            service.target = None
            service.state = "started" if _wants_start(resource) else "request_stop"
            service.running = guest.running
        elif service.state == "started":
            self._started(sid, resource, service, result)
        elif service.state == "stopped":
            service.node = guest.node
            self._command(resource, service)
            if service.state == "stopped" and _wants_start(resource):
                service.state, service.running = "started", False
        elif service.state == "error" and resource.get("state") == "disabled":
            service.state, service.failed_nodes = "stopped", []

    def _started(self, sid: str, resource: dict[str, Any], service: Service, result: bool | None) -> None:
        if not _wants_start(resource):
            service.state, service.timeout = "request_stop", None
            return
        if service.command:
            self._command(resource, service)
            return
        if result is True:
            service.running, service.failed_nodes = True, []
        elif result is False:
            service.running = False
            service.failed_nodes.append(service.node)
            if len(service.failed_nodes) > int(resource.get("max_relocate", 1)):
                service.state = "error"
                return
            others = [
                name for name, node in self._cluster.nodes.items() if node.online and name not in service.failed_nodes
            ]
            if others:
                service.state, service.target = "relocate", others[0]
            service.failures = 0

    def _command(self, resource: dict[str, Any], service: Service) -> None:
        command, service.command = service.command, []
        if not command:
            return
        if command[0] == "stop":
            if service.state == "started":
                service.state, service.timeout = "request_stop", int(command[2])
                resource["state"] = "stopped"
        else:
            target = self._cluster.nodes.get(command[2])
            if target is not None and target.online and target.name != service.node:
                service.state, service.target = command[0], target.name

    def _fence(self, service: Service, guest: Guest) -> None:
        """A node that is silent long enough is fenced, and its guests are taken over by another."""
        now = self._cluster.now
        service.silent_since = now if service.silent_since is None else service.silent_since
        if now - service.silent_since >= FENCE_SECONDS / 2 and service.state not in ("stopped", "error"):
            service.state = "fence"
        others = [name for name, node in self._cluster.nodes.items() if node.online]
        if service.state == "fence" and now - service.silent_since >= FENCE_SECONDS and others:
            guest.power = None
            guest.node = service.node = others[0]
            guest.config.pop("lock", None)
            service.state, service.running, service.silent_since = "started", False, None
            self._cluster.touched(guest.vmid)

    def _work_on(self, node: str) -> None:
        """A round of a node's local resource manager (LRM)."""
        cluster = self._cluster
        if not cluster.nodes[node].online or not cluster.quorate:
            return
        for sid, service in self.services.items():
            guest = cluster.guests.get(int(sid.partition(":")[2]))
            if service.node != node or service.result is not None or guest is None or guest.node != node:
                continue
            if service.worker is not None and not service.worker.done:
                continue
            if service.state == "started":
                if guest.running:
                    service.result, service.failures = (None if service.running else True), 0
                else:
                    self._begin(sid, service, guest, "start", {})
            elif service.state == "request_stop":
                if not guest.running:
                    service.result = True
                elif service.timeout == 0:
                    self._begin(sid, service, guest, "stop", {})
                else:
                    self._begin(sid, service, guest, "shutdown", {"timeout": service.timeout or 60, "forceStop": 1})
            elif service.state in ("migrate", "relocate"):
                self._begin_move(sid, service, guest)

    def _begin(self, sid: str, service: Service, guest: Guest, verb: str, params: dict[str, Any]) -> None:
        def judge(process: Process[None]) -> None:
            if verb != "start":
                service.result = not guest.running
            elif guest.running:
                service.result, service.failures = True, 0
            else:
                service.failures += 1
                if service.failures > int(self.resources.get(sid, {}).get("max_restart", 1)):
                    service.result = False

        service.worker = self._cluster.scheduler.spawn(self._run(guest, f"status/{verb}", params), judge)

    def _begin_move(self, sid: str, service: Service, guest: Guest) -> None:
        target = service.target
        online = service.state == "migrate" and guest.running

        def steps() -> Steps[None]:
            if guest.kind == "lxc":
                params: dict[str, Any] = {"target": target, "restart": 1} if guest.running else {"target": target}
            else:
                if guest.running and not online:
                    yield from self._run(guest, "status/shutdown", {"timeout": 60, "forceStop": 1})
                params = {"target": target, "online": int(online), "force": 1, "with-local-disks": 1}
            yield from self._run(guest, "migrate", params)

        def judge(process: Process[None]) -> None:
            service.result = guest.node == target

        service.worker = self._cluster.scheduler.spawn(steps(), judge)

    def _run(self, guest: Guest, action: str, params: dict[str, Any]) -> Steps[None]:
        """Call a method of the guest's API as root@pam, past HA, and wait for the task."""
        from .cluster import ROUTES, Call

        handler = ROUTES["POST", f"/nodes/{{node}}/{guest.kind}/{{vmid}}/{action}"]
        call = Call(self._cluster, "root@pam", {"node": guest.node, "vmid": guest.vmid, **params})
        self._acting.add(guest.vmid)
        try:
            result = handler(call)
            if inspect.isgenerator(result):
                result = yield from result
        finally:
            self._acting.discard(guest.vmid)
        task = self._cluster.tasks.all[result]
        while task.end is None:
            yield Sleep(0.2)


def _wants_start(resource: Mapping[str, Any]) -> bool:
    return resource.get("state", "started") in ("started", "enabled")


# --- endpoints ------------------------------------------------------------------------------------------------------


def _parse_sid(call: Call) -> tuple[str, int]:
    """The resource of the request: `vm:100`, or `100` of an existing guest."""
    text = str(call.params["sid"])
    if text.isdigit():
        if int(text) not in call.cluster.guests:
            raise die(f"unable to detect SID from VMID - VM/CT {text} does not exist")
        text = call.cluster.ha.sid(int(text))
    kind, _rest, name = text.partition(":")
    if kind not in ("vm", "ct") or not name.isdigit():
        raise die(f"unable to parse service id '{text}'")
    return text, int(name)


def _digest(ha: Ha) -> str:
    return hashlib.sha1(json.dumps(ha.resources, sort_keys=True).encode()).hexdigest()


def _row(ha: Ha, sid: str) -> dict[str, Any]:
    return {**ha.resources[sid], "sid": sid, "type": sid.partition(":")[0], "digest": _digest(ha)}


def resource_list(call: Call) -> list[dict[str, Any]]:
    """GET /cluster/ha/resources."""
    ha, kind = call.cluster.ha, call.params.get("type")
    return [_row(ha, sid) for sid in sorted(ha.resources) if kind in (None, sid.partition(":")[0])]


def resource_get(call: Call) -> dict[str, Any]:
    """GET /cluster/ha/resources/{sid}."""
    sid, _rest = _parse_sid(call)
    if sid not in call.cluster.ha.resources:
        raise die(f"no such resource '{sid}'")
    return _row(call.cluster.ha, sid)


_OPTIONS = ("state", "comment", "failback", "max_restart", "max_relocate", "auto-rebalance")


def resource_create(call: Call) -> None:
    """POST /cluster/ha/resources."""
    cluster, ha = call.cluster, call.cluster.ha
    cluster.need_quorum()
    sid, vmid = _parse_sid(call)
    kind = sid.partition(":")[0]
    if call.params.get("type", kind) != kind:
        raise die("types does not match")
    if "group" in call.params:
        raise die("invalid parameter 'group': ha groups have been migrated to rules")
    guest = cluster.guests.get(vmid)
    if guest is None:
        raise die(f"resource '{sid}' does not exist in cluster")
    if guest.kind != ("qemu" if kind == "vm" else "lxc"):
        raise die(f"resource '{sid}' - guest with ID {vmid} is not a {'VM' if kind == 'vm' else 'CT'}")
    if sid in ha.resources:
        raise die(f"create resource failed: resource ID '{sid}' already defined")
    ha.resources[sid] = {name: call.params[name] for name in _OPTIONS if name in call.params}
    ha.resources[sid].setdefault("state", "started")
    if ha.resources[sid]["state"] == "enabled":
        ha.resources[sid]["state"] = "started"
    ha.wake()


def resource_update(call: Call) -> None:
    """PUT /cluster/ha/resources/{sid}."""
    ha = call.cluster.ha
    sid, _rest = _parse_sid(call)
    if "group" in call.params:
        raise die("invalid parameter 'group': ha groups have been migrated to rules")
    ha.check_state(sid, call.params.get("state"))
    if call.params.get("digest") not in (None, "", _digest(ha)):
        raise die("detected modified configuration - file changed by other user? Try again.")
    if sid not in ha.resources:
        raise die(f"no such resource '{sid}'")
    for name in str(call.params.get("delete", "")).replace(",", " ").split():
        ha.resources[sid].pop(name, None)
    changes = {name: call.params[name] for name in _OPTIONS if name in call.params}
    if changes.get("state") == "enabled":
        changes["state"] = "started"
    ha.resources[sid].update(changes)


def resource_delete(call: Call) -> None:
    """DELETE /cluster/ha/resources/{sid}."""
    ha = call.cluster.ha
    sid, _rest = _parse_sid(call)
    if sid not in ha.resources:
        raise die(f"cannot delete service '{sid}', not HA managed!")
    del ha.resources[sid]


def _move(call: Call, verb: str) -> dict[str, Any]:
    ha = call.cluster.ha
    sid, vmid = _parse_sid(call)
    if not ha.managed(vmid):
        raise die(f"resource '{sid}' is not HA managed")
    ha.check_state(sid)
    service = ha.services.get(sid)
    if service is not None:
        service.command = [verb, sid, str(call.params["node"])]
    return {"sid": sid, "requested-node": call.params["node"]}


def resource_migrate(call: Call) -> dict[str, Any]:
    """POST /cluster/ha/resources/{sid}/migrate."""
    return _move(call, "migrate")


def resource_relocate(call: Call) -> dict[str, Any]:
    """POST /cluster/ha/resources/{sid}/relocate."""
    return _move(call, "relocate")


def _hour(when: float) -> str:
    return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(when))


def _verbose(ha: Ha, sid: str) -> str:
    """A service's state for people (PVE/HA/Tools.pm get_verbose_service_state)."""
    wanted = ha.resources.get(sid, {}).get("state", "started")
    service = ha.services.get(sid)
    if sid not in ha.resources:
        return "deleting"
    if wanted == "ignored":
        return "ignored"
    if service is None:
        return "queued"
    if service.state == "stopped":
        return {"started": "starting", "disabled": "disabled"}.get(wanted, "stopped")
    if service.state == "started":
        if not service.running:
            return "starting"
        return "stopping" if wanted in ("stopped", "disabled") else "started"
    if service.state == "error" and wanted == "disabled":
        return "clearing error flag"
    return service.state


def status_current(call: Call) -> list[dict[str, Any]]:
    """GET /cluster/ha/status/current."""
    cluster, ha = call.cluster, call.cluster.ha
    entry, now = cluster.entry, cluster.now
    quorum = "OK" if cluster.quorate else f"No quorum on node '{entry}'!"
    rows: list[dict[str, Any]] = [
        {"id": "quorum", "type": "quorum", "node": entry, "status": quorum, "quorate": int(cluster.quorate)}
    ]
    if ha.resources or ha.services:
        active = now - ha.looked < 30
        rows.append(
            {
                "id": "master",
                "type": "master",
                "node": entry,
                "status": f"{entry} ({'active' if active else 'old timestamp - dead?'}, {_hour(ha.looked)})",
                "timestamp": int(ha.looked),
            }
        )
        rows.append(
            {
                "id": "fencing",
                "type": "fencing",
                "node": entry,
                "status": "armed (CRM watchdog active)" if active else "standby (CRM watchdog standby)",
                "armed-state": "armed" if active else "standby",
            }
        )
        for name in sorted(cluster.nodes):
            busy = any(service.node == name and service.state != "stopped" for service in ha.services.values())
            state = "active, watchdog active" if busy else "idle, watchdog standby"
            status = f"{name} ({state}, {_hour(now)})"
            rows.append({"id": f"lrm:{name}", "type": "lrm", "node": name, "status": status, "timestamp": int(now)})
    for sid in sorted({*ha.resources, *ha.services}):
        rows.append(_service_row(cluster, ha, sid))
    return rows


def _service_row(cluster: Cluster, ha: Ha, sid: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"service:{sid}", "type": "service", "sid": sid}
    guest = cluster.guests.get(int(sid.partition(":")[2]))
    service = ha.services.get(sid)
    if service is not None:
        row |= {"node": service.node, "crm_state": service.state}
    elif guest is not None:
        row["node"] = guest.node
    row["state"] = _verbose(ha, sid)
    row["status"] = f"{sid} ({row.get('node', '---')}, {row['state']})"
    resource = ha.resources.get(sid)
    if resource is not None:
        row["request_state"] = resource["state"]
        row |= {"failback": 1, "max_restart": 1, "max_relocate": 1}
        row |= {
            name: resource[name] for name in ("max_restart", "max_relocate", "failback", "comment") if name in resource
        }
    return row


ROUTES = {
    ("GET", "/cluster/ha/resources"): resource_list,
    ("POST", "/cluster/ha/resources"): resource_create,
    ("GET", "/cluster/ha/resources/{sid}"): resource_get,
    ("PUT", "/cluster/ha/resources/{sid}"): resource_update,
    ("DELETE", "/cluster/ha/resources/{sid}"): resource_delete,
    ("POST", "/cluster/ha/resources/{sid}/migrate"): resource_migrate,
    ("POST", "/cluster/ha/resources/{sid}/relocate"): resource_relocate,
    ("GET", "/cluster/ha/status/current"): status_current,
}

# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU guest agent, and the little that it reaches inside a guest: files, programs, passwords, frozen file systems.

Sources: qemu-server, PVE/API2/Qemu/Agent.pm, PVE/QemuServer/Agent.pm (assert_agent_available, agent_cmd, qemu_exec,
qemu_exec_status) and PVE/QMPClient.pm (cmd: the timeouts); qemu, qga/main.c (what a frozen agent still does), qga/commands.c
(guest-exec, guest-exec-status) and qga/commands-posix.c (guest-file-open, -read, -write, set-user-password, fsfreeze, fstrim).

The server hands bytes on as texts of one character a byte, in both directions. A command with parameters turns the agent's error
into a status 500 ("Agent error: ..."), one without returns it as `result.error`.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .clock import Sleep, Steps
from .http import ApiError, die
from .model import Guest, Inside, Ran
from .propstring import NET, parse
from .qemu_power import agent_answers

if TYPE_CHECKING:
    from .cluster import Call, Cluster

PROXY_SECONDS = 30.0
USUAL_SECONDS = 0.02
# How long the server waits for an answer; the agent goes on meanwhile.
TIMEOUTS = {"guest-fsfreeze-freeze": 3600.0, "guest-fsfreeze-thaw": 180.0, "guest-fstrim": 600.0}
USUAL_TIMEOUT = 5.0
MAX_READ = 16 * 1024 * 1024
CHUNK = 1024 * 1024
MAX_OUTPUT = 16 * 1024 * 1024

# What it still does while file systems are frozen.
FREEZE_SAFE = frozenset({"ping", "info", "sync", "sync-delimited", "fsfreeze-status", "fsfreeze-thaw"})
SUPPORTED = (
    "exec", "exec-status", "file-close", "file-open", "file-read", "file-seek", "file-write", "fsfreeze-freeze", "fsfreeze-status",
    "fsfreeze-thaw", "fstrim", "get-fsinfo", "get-host-name", "get-osinfo", "get-time", "get-timezone", "get-users", "get-vcpus",
    "info", "network-get-interfaces", "ping", "set-user-password", "shutdown", "sync", "sync-delimited",
)  # fmt: skip


@dataclass
class AgentError(Exception):
    """What the agent itself refuses."""

    text: str
    kind: str = "GenericError"


# ---------------------------------------------------------------------------------------------------------------------
# Inside the guest


def _touch(inside: Inside, arguments: list[str], stdin: bytes) -> Ran:
    for path in arguments[1:]:
        if posixpath.dirname(path) not in inside.directories:
            return Ran(code=1, err=f"touch: cannot touch '{path}': No such file or directory\n".encode())
        inside.files.setdefault(path, b"")
    return Ran()


def _remove(inside: Inside, arguments: list[str], stdin: bytes) -> Ran:
    missing = [path for path in arguments[1:] if inside.files.pop(path, None) is None]
    err = "".join(f"rm: cannot remove '{path}': No such file or directory\n" for path in missing)
    return Ran(code=1 if missing else 0, err=err.encode())


def _cat(inside: Inside, arguments: list[str], stdin: bytes) -> Ran:
    return Ran(out=b"".join(inside.files.get(path, b"") for path in arguments[1:]) if arguments[1:] else stdin)


def _shell(inside: Inside, arguments: list[str], stdin: bytes) -> Ran:
    script = arguments[2] if arguments[1:2] == ["-c"] else ""
    exits, kills = re.fullmatch(r"exit (\d+)", script), re.fullmatch(r"kill -(\d+) \$\$", script)
    if exits:
        return Ran(code=int(exits[1]), err=b"going\n" if exits[1] != "0" else b"")
    if kills:
        return Ran(signal=int(kills[1]))
    raise NotImplementedError(f"the simulated shell does not know {script!r}")


PROGRAMS: dict[str, Callable[[Inside, list[str], bytes], Ran]] = {
    "true": lambda inside, arguments, stdin: Ran(),
    "false": lambda inside, arguments, stdin: Ran(code=1),
    "echo": lambda inside, arguments, stdin: Ran(out=" ".join(arguments[1:]).encode() + b"\n"),
    "cat": _cat,
    "rm": _remove,
    "sh": _shell,
    "sleep": lambda inside, arguments, stdin: Ran(seconds=float(arguments[1])),
    "touch": _touch,
}


def inside_of(guest: Guest) -> Inside:
    """The inside of a running guest; what belonged to an earlier start of it is gone."""
    inside, power = guest.inside, guest.power
    if power is not None and inside.booted != power.booted:
        inside.booted, inside.frozen, inside.busy_until = power.booted, False, 0.0
        inside.processes.clear()
    return inside


def state(guest: Guest) -> dict[str, Any]:
    """What is the same after the same deeds."""
    inside = guest.inside
    frozen = inside.frozen and guest.power is not None and inside.booted == guest.power.booted
    files = {path: content.decode("latin-1") for path, content in sorted(inside.files.items())}
    return {"files": files, "passwords": dict(inside.passwords), "frozen": frozen}


# ---------------------------------------------------------------------------------------------------------------------
# The way to the agent


def available(call: Call) -> Steps[Guest]:
    """The VM whose agent answers; a dead or busy one costs three seconds. Raises ApiError."""
    cluster = call.cluster
    guest = cluster.guest("qemu", call.node, call.vmid)
    if "agent" not in guest.config:
        raise die("No QEMU guest agent configured")
    if not guest.running:
        raise die(f"VM {guest.vmid} is not running")
    patience = cluster.durations.agent_timeout
    busy = max(0.0, inside_of(guest).busy_until - cluster.now)
    if not agent_answers(cluster, guest) or busy > patience:
        yield Sleep(patience)
        raise die("QEMU guest agent is not running")
    yield Sleep(busy)
    return guest


def monitor(cluster: Cluster, guest: Guest, command: str, work: Callable[[Inside], Any], *, began: float) -> Steps[Any]:
    """The result of a command (mon_cmd), or the agent's error as `{"error": ...}`.

    Args:
        work: done inside the guest when the agent comes to it, whether somebody still waits for it or not; raises AgentError.
        began: when the request did, for a proxy gives up after thirty seconds.

    Raises:
        ApiError: no answer in time.
    """
    name, inside, power = f"guest-{command}", inside_of(guest), guest.power
    seconds = guest.behaviour.agent_seconds.get(name, USUAL_SECONDS)
    box: list[Any] = []

    def act() -> None:
        if guest.power is not power:
            return
        try:
            _check_allowed(guest, inside, command)
            box.append(work(inside))
        except AgentError as error:
            box.append({"error": {"class": error.kind, "desc": error.text}})

    inside.busy_until = cluster.now + seconds
    cluster.scheduler.after(seconds, act)
    patience = TIMEOUTS.get(name, USUAL_TIMEOUT)
    left = max(0.0, began + PROXY_SECONDS - cluster.now)
    yield Sleep(min(seconds, patience, left))
    if not box and left <= min(seconds, patience):
        raise ApiError(596, "Connection timed out", empty=True)
    if not box:
        raise die(f"VM {guest.vmid} qga command '{name}' failed - got timeout")
    return box[0]


def _check_allowed(guest: Guest, inside: Inside, command: str) -> None:
    name = f"guest-{command}"
    if name in guest.behaviour.agent_blocked:
        raise AgentError(f"Command {name} has been disabled: the command is not allowed", "CommandNotFound")
    if inside.frozen and command not in FREEZE_SAFE:
        raise AgentError(f"Command {name} has been disabled: the agent is in frozen state", "CommandNotFound")


def _checked(result: Any) -> Any:
    """The result of a command with parameters (check_agent_error)."""
    if isinstance(result, Mapping) and "error" in result:
        raise die(f"Agent error: {result['error']['desc']}")
    return result


def _bytes(text: str) -> bytes:
    """A parameter as encode_base64 takes it: every character is a byte."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise die("Wide character in subroutine entry at /usr/share/perl5/PVE/API2/Qemu/Agent.pm line 354.") from None


# ---------------------------------------------------------------------------------------------------------------------
# Commands without parameters


def addresses(guest: Guest, number: int) -> list[str]:
    """The addresses of a network device with their prefix lengths: those that tests set, cloud-init's, or made-up ones."""
    if number == 0 and guest.behaviour.addresses:
        return list(guest.behaviour.addresses)
    found = re.search(r"(?:^|,)ip=([0-9.]+/\d+)", guest.config.get(f"ipconfig{number}", ""))
    if found:
        return [found[1]]
    return [f"10.{20 + number}.{guest.vmid // 250 % 250}.{guest.vmid % 250 + 1}/16"]


def _address(text: str) -> dict[str, Any]:
    address, _rest, prefix = text.partition("/")
    kind = "ipv6" if ":" in address else "ipv4"
    return {"ip-address": address, "ip-address-type": kind, "prefix": int(prefix or "32")}


def interfaces(guest: Guest) -> list[dict[str, Any]]:
    """What network-get-interfaces tells of a Linux guest."""
    counters = dict.fromkeys(
        ("rx-bytes", "rx-packets", "rx-errs", "rx-dropped", "tx-bytes", "tx-packets", "tx-errs", "tx-dropped"), 0
    )
    rows: list[dict[str, Any]] = [
        {
            "name": "lo",
            "hardware-address": "00:00:00:00:00:00",
            "ip-addresses": [_address("127.0.0.1/8"), _address("::1/128")],
            "statistics": dict(counters),
        }
    ]
    devices = sorted(
        (option for option in guest.config if re.fullmatch(r"net\d+", option)), key=lambda name: int(name[3:])
    )
    for option in devices:
        number = int(option[3:])
        mac = parse(NET, guest.config[option])["macaddr"].lower()
        link = f"fe80::{mac[0:2]}{mac[3:5]}:{mac[6:8]}ff:fe{mac[9:11]}:{mac[12:14]}{mac[15:17]}/64"
        rows.append(
            {
                "name": f"eth{number}",
                "hardware-address": mac,
                "ip-addresses": [_address(text) for text in [*addresses(guest, number), link]],
                "statistics": dict(counters),
            }
        )
    return rows


def _info(guest: Guest, inside: Inside) -> dict[str, Any]:
    def enabled(command: str) -> bool:
        return f"guest-{command}" not in guest.behaviour.agent_blocked and (not inside.frozen or command in FREEZE_SAFE)

    commands = [
        {"name": f"guest-{command}", "enabled": enabled(command), "success-response": command != "shutdown"}
        for command in SUPPORTED
    ]
    return {"version": "10.0.2", "supported_commands": commands}


def _freeze(inside: Inside, frozen: bool) -> int:
    changed = inside.frozen != frozen
    inside.frozen = frozen
    return int(changed)


def _trim(inside: Inside) -> dict[str, Any]:
    inside.trims += 1
    return {"paths": [{"path": "/", "trimmed": 1024 * 1024 * 512, "minimum": 0}]}


def _answers(call: Call, guest: Guest, command: str, inside: Inside) -> Any:
    """The result of a command without parameters."""
    now = call.cluster.now
    results: dict[str, Callable[[], Any]] = {
        "ping": dict,
        "network-get-interfaces": lambda: interfaces(guest),
        "get-host-name": lambda: {"host-name": guest.config.get("name", "localhost")},
        "get-osinfo": lambda: {
            "id": "debian",
            "name": "Debian GNU/Linux",
            "pretty-name": "Debian GNU/Linux 13 (trixie)",
            "version": "13 (trixie)",
            "version-id": "13",
            "kernel-release": "6.12.117+deb13-cloud-amd64",
            "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)",
            "machine": "x86_64",
        },
        "get-time": lambda: int(now * 1e9),
        "get-timezone": lambda: {"offset": 0, "zone": "UTC"},
        "get-users": list,
        "get-fsinfo": list,
        "get-vcpus": lambda: [{"logical-id": 0, "online": True, "can-offline": False}],
        "info": lambda: _info(guest, inside),
        "fsfreeze-status": lambda: "frozen" if inside.frozen else "thawed",
        "fsfreeze-freeze": lambda: _freeze(inside, True),
        "fsfreeze-thaw": lambda: _freeze(inside, False),
        "fstrim": lambda: _trim(inside),
    }
    return results[command]()


def _command(command: str) -> Any:
    def handler(call: Call) -> Steps[dict[str, Any]]:
        began = call.cluster.now
        guest = yield from available(call)

        def work(inside: Inside) -> Any:
            return _answers(call, guest, command, inside)

        result = yield from monitor(call.cluster, guest, command, work, began=began)
        return {"result": result}

    return handler


# ---------------------------------------------------------------------------------------------------------------------
# Commands with parameters


def set_user_password(call: Call) -> Steps[dict[str, Any]]:
    """POST agent/set-user-password."""
    began, params = call.cluster.now, call.params
    password, user = _bytes(params["password"]).decode("utf-8", "replace"), params["username"]
    guest = yield from available(call)

    def work(inside: Inside) -> dict[str, Any]:
        if "\n" in password:
            raise AgentError("forbidden characters in raw password")
        if "\n" in user or ":" in user:
            raise AgentError("forbidden characters in username")
        if user not in inside.passwords:
            raise AgentError("child process has failed to set user password")
        inside.passwords[user] = (password, bool(params.get("crypted")))
        return {}

    result = yield from monitor(call.cluster, guest, "set-user-password", work, began=began)
    return {"result": _checked(result)}


def execute(call: Call) -> Steps[dict[str, int]]:
    """POST agent/exec."""
    began, cluster = call.cluster.now, call.cluster
    command = [str(part) for part in call.params.get("command") or []]
    given = call.params.get("input-data")
    stdin = _bytes(given) if given is not None else b""
    if not command:
        raise die("command or input-data (or both) required")
    guest = yield from available(call)

    def work(inside: Inside) -> dict[str, int]:
        name = re.sub(r"^(/usr)?/bin/", "", command[0])
        program = guest.behaviour.programs.get(name) or PROGRAMS.get(name)
        if program is None:
            failed = f"Failed to execute child process \u201c{command[0]}\u201d (No such file or directory)"
            raise AgentError(f"Guest agent command failed, error was '{failed}'")
        inside.ran.append(command)
        ran = program(inside, command, stdin)
        inside.last_pid += 3
        inside.processes[inside.last_pid] = (cluster.now + ran.seconds, ran)
        return {"pid": inside.last_pid}

    result: dict[str, int] = _checked((yield from monitor(cluster, guest, "exec", work, began=began)))
    return result


def exec_status(call: Call) -> Steps[dict[str, Any]]:
    """GET agent/exec-status; the agent forgets a program whose end it has told."""
    began, cluster, pid = call.cluster.now, call.cluster, int(call.params["pid"])
    guest = yield from available(call)

    def work(inside: Inside) -> dict[str, Any]:
        if pid not in inside.processes:
            raise AgentError(f"PID {pid} does not exist")
        ends, ran = inside.processes[pid]
        if cluster.now < ends:
            return {"exited": 0}
        del inside.processes[pid]
        row: dict[str, Any] = {"exited": 1}
        row |= {"signal": ran.signal} if ran.signal is not None else {"exitcode": ran.code}
        for name, data in (("out", ran.out), ("err", ran.err)):
            if data:
                row[f"{name}-data"] = data[:MAX_OUTPUT].decode("latin-1")
            if len(data) > MAX_OUTPUT:
                row[f"{name}-truncated"] = 1
        return row

    result: dict[str, Any] = _checked((yield from monitor(cluster, guest, "exec-status", work, began=began)))
    return result


def file_read(call: Call) -> Steps[dict[str, Any]]:
    """GET agent/file-read."""
    began, params = call.cluster.now, call.params
    path, offset = params["file"], params.get("offset", 0)
    guest = yield from available(call)
    run = call.cluster, guest

    def opened(inside: Inside) -> int:
        if path not in inside.files and path not in inside.directories:
            raise AgentError(f"failed to open file '{path}' (mode: 'r'): No such file or directory")
        return 1000

    def read(inside: Inside) -> bytes:
        if path in inside.directories:
            raise AgentError("failed to read file: Is a directory")
        return inside.files.get(path, b"")

    _checked((yield from monitor(*run, "file-open", opened, began=began)))
    content: bytes = _checked((yield from monitor(*run, "file-read", read, began=began)))[offset:]
    _checked((yield from monitor(*run, "file-close", lambda inside: {}, began=began)))
    count = params.get("count", MAX_READ)
    found = content[:count]
    chunks = [found[at : at + CHUNK] for at in range(0, len(found), CHUNK)]
    text = (
        found.decode("latin-1")
        if params.get("decode", 1)
        else "".join(base64.b64encode(chunk).decode() for chunk in chunks)
    )
    # The end is known once a read came back short.
    more = {"truncated": 1} if len(content) >= count else {}
    return {"content": text, "bytes-read": len(found), **more}


def file_write(call: Call) -> Steps[None]:
    """POST agent/file-write: opened for writing, which empties it, then written."""
    began, params = call.cluster.now, call.params
    path = params["file"]
    encoded = base64.b64encode(_bytes(params["content"])) if params.get("encode", 1) else params["content"].encode()
    guest = yield from available(call)
    run = call.cluster, guest

    def opened(inside: Inside) -> int:
        if path in inside.directories:
            raise AgentError(f"failed to open file '{path}' (mode: 'wb'): Is a directory")
        if posixpath.dirname(path) not in inside.directories:
            raise AgentError(f"failed to open file '{path}' (mode: 'wb'): No such file or directory")
        inside.files[path] = b""
        return 1000

    def write(inside: Inside) -> dict[str, Any]:
        try:
            inside.files[path] = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise AgentError("Base64 data is not valid") from None
        return {"count": len(inside.files[path]), "eof": False}

    _checked((yield from monitor(*run, "file-open", opened, began=began)))
    _checked((yield from monitor(*run, "file-write", write, began=began)))
    _checked((yield from monitor(*run, "file-close", lambda inside: {}, began=began)))


COMMANDS = {
    "POST": ("ping", "fsfreeze-status", "fsfreeze-freeze", "fsfreeze-thaw", "fstrim"),
    "GET": (
        "network-get-interfaces", "get-host-name", "get-osinfo", "get-time", "get-timezone", "get-users", "get-fsinfo", "get-vcpus",
        "info",
    ),
}  # fmt: skip
_AGENT = "/nodes/{node}/qemu/{vmid}/agent"
ROUTES: dict[tuple[str, str], Any] = {
    **{
        (method, f"{_AGENT}/{command}"): _command(command)
        for method, commands in COMMANDS.items()
        for command in commands
    },
    ("POST", f"{_AGENT}/set-user-password"): set_user_password,
    ("POST", f"{_AGENT}/exec"): execute,
    ("GET", f"{_AGENT}/exec-status"): exec_status,
    ("GET", f"{_AGENT}/file-read"): file_read,
    ("POST", f"{_AGENT}/file-write"): file_write,
}

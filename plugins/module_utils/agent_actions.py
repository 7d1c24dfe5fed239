# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guest agent of a VM can be told to do: run a program, read and write files, freeze, thaw and trim file systems, set a
password.

Sources: PVE/API2/Qemu/Agent.pm, PVE/QemuServer/Agent.pm, and of QEMU's agent qga/main.c and qga/commands.c.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import hosts
from .agent import AGENT_PAUSE, Reached, Silence, ask, check_answer, check_enabled, config_in_force, networks, reach
from .errors import ProxmoxError, Refused
from .guests import Guest, GuestRef, look, reference
from .guests import observe as observe_guest
from .plan import Call, Feature, Outcome, Plan, Reader
from .wire import is_true

# action -> the options that are for it.
OPTIONS: Mapping[str, frozenset[str]] = {
    "ping": frozenset(),
    "info": frozenset({"preferred_networks", "refused_networks"}),
    "interfaces": frozenset({"preferred_networks", "refused_networks"}),
    "exec": frozenset({"cmd", "argv", "stdin", "stdin_add_newline", "creates", "removes"}),
    "read": frozenset({"path", "max_bytes"}),
    "write": frozenset({"path", "content", "encoding"}),
    "freeze": frozenset(),
    "thaw": frozenset(),
    "trim": frozenset(),
    "password": frozenset({"username", "password", "crypted"}),
}

# PVE/API2/Qemu/Agent.pm: file-read, file-write, exec.
MAX_READ = 16 * 1024 * 1024
MAX_WRITE = 60 * 1024
MAX_STDIN = 64 * 1024

# What the agent does although file systems are frozen; everything else it then has disabled (qga/main.c).
FREEZE_SAFE = frozenset(
    f"guest-{name}" for name in ("ping", "info", "sync", "sync-delimited", "fsfreeze-status", "fsfreeze-thaw")
)

# What the agent says of a file that is not there (qga/commands-posix.c, qga/commands-win32.c), and of a directory.
_NO_FILE = re.compile(r"No such file or directory|Not a directory|cannot find the (file|path) specified")
_DIRECTORY = re.compile(r"Is a directory")
_NO_PID = re.compile(r"PID \d+ does not exist|Invalid parameter 'pid'")


@dataclass(frozen=True)
class Wanted:
    """:param argv: program and arguments. :param stdin: what it reads. :param content: of the file.

    :param liked: which addresses are. :param crypted: whether the password is a hash already.
    """

    guest: GuestRef
    action: str
    argv: tuple[str, ...] = ()
    stdin: bytes | None = None
    creates: str | None = None
    removes: str | None = None
    path: str = ""
    max_bytes: int = MAX_READ
    content: bytes = b""
    username: str = ""
    password: str = ""
    crypted: bool = False
    liked: hosts.Networks = field(default_factory=hosts.Networks)


@dataclass(frozen=True)
class File:
    """A file inside the guest. :param content: its beginning; None where it is a directory. :param whole: whether that is all."""

    content: bytes | None
    whole: bool = True

    def shown(self) -> dict[str, object]:
        content = self.content or b""
        known = self.whole and self.content is not None
        return {
            "exists": True,
            "size": len(content) if known else None,
            "checksum": hashlib.sha256(content).hexdigest() if known else None,
        }


@dataclass(frozen=True)
class Observed:
    """:param config: that it runs with. :param silent: why the agent does not answer.

    :param info: what the agent says of itself. :param told: what else it tells, as results show it.
    :param files: by path, None where there is none.
    :param lost: the answer to the last call was lost. :param busy: since then the agent did not answer, so it works on that.
    :param pid: of the program that was started. :param looks: how often it was asked after. :param ended: how it ended.
    """

    guest: Guest
    config: Mapping[str, Any]
    silent: str | None = None
    info: Mapping[str, Any] | None = None
    reached: Reached | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, File | None] = field(default_factory=dict)
    lost: bool = False
    busy: bool = False
    pid: int | None = None
    looks: int = 0
    ended: Mapping[str, Any] | None = None

    @property
    def frozen(self) -> bool:
        """Whether file systems are frozen: the agent has then disabled what could write."""
        commands = (self.info or {}).get("supported_commands") or ()
        others = [one for one in commands if one["name"] not in FREEZE_SAFE]
        return bool(others) and not any(is_true(one.get("enabled")) for one in others)


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    action = options["action"]
    for name in sorted(frozenset().union(*OPTIONS.values()) - OPTIONS[action]):
        if options.get(name) is not None:
            uses = " and ".join(f"action={one}" for one, names in OPTIONS.items() if name in names)
            raise Refused(f"{name} is for {uses}, not for action={action}.")
    want = Wanted(reference(options), action, liked=networks(options))
    return _FILL[action](want, options) if action in _FILL else want


def _exec(want: Wanted, options: Mapping[str, Any]) -> Wanted:
    cmd, argv, stdin = options.get("cmd"), options.get("argv"), options.get("stdin")
    if (cmd is None) is (argv is None):
        raise Refused("action=exec needs one of cmd and argv.")
    try:
        parts = tuple(argv) if argv is not None else tuple(shlex.split(cmd))
    except ValueError as error:
        raise Refused(
            f"cmd cannot be split into a program and its arguments ({error}); give them as a list, in argv."
        ) from error
    if not parts or not parts[0]:
        raise Refused("action=exec needs a program to run, and there is none.")
    given = None
    if stdin is not None:
        given = (stdin if options.get("stdin_add_newline") is False else f"{stdin}\n").encode()
        if len(given) > MAX_STDIN:
            raise Refused(f"stdin has {len(given)} bytes, and the server takes at most {MAX_STDIN}.")
    return replace(want, argv=parts, stdin=given, creates=options.get("creates"), removes=options.get("removes"))


def _read(want: Wanted, options: Mapping[str, Any]) -> Wanted:
    most = options.get("max_bytes")
    most = MAX_READ if most is None else most
    if not 1 <= most <= MAX_READ:
        raise Refused(f"max_bytes is {most}; the server reads 1 to {MAX_READ} bytes.")
    return replace(want, path=_needed("read", options, "path"), max_bytes=most)


def _write(want: Wanted, options: Mapping[str, Any]) -> Wanted:
    text = _needed("write", options, "content")
    try:
        content = base64.b64decode(text, validate=True) if options.get("encoding") == "base64" else text.encode()
    except ValueError as error:
        raise Refused(f"content is not base64 ({error}).") from error
    if len(content) > MAX_WRITE:
        raise Refused(
            f"content has {len(content)} bytes, and the server takes at most {MAX_WRITE}; let the guest fetch larger files itself."
        )
    return replace(want, path=_needed("write", options, "path"), content=content)


def _password(want: Wanted, options: Mapping[str, Any]) -> Wanted:
    username, password = (_needed("password", options, name) for name in ("username", "password"))
    return replace(want, username=username, password=password, crypted=bool(options.get("crypted")))


_FILL: Mapping[str, Callable[[Wanted, Mapping[str, Any]], Wanted]] = {
    "exec": _exec,
    "read": _read,
    "write": _write,
    "password": _password,
}


def _needed(action: str, options: Mapping[str, Any], name: str) -> str:
    value = options.get(name)
    if value is None:
        raise Refused(f"action={action} needs {name}.")
    return str(value)


# What is there


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return what the action must know of the guest, or how the program that it has started is getting on."""
    if previous is not None and previous.pid is not None:
        return previous if previous.ended is not None else _how_it_ends(reader, previous)
    guest = observe_guest(reader, want.guest, previous.guest if previous is not None else None)
    if guest.kind == "lxc" and want.action != "interfaces":
        raise Refused(f"{guest} is a container; it has no guest agent, and of the actions it knows interfaces only.")
    if guest.status != "running":
        raise Refused(f"{guest} on node {guest.node} is {guest.status}; action={want.action} needs it to run.")
    config = config_in_force(reader, guest) if previous is None else previous.config
    check_enabled(guest, config)
    kept = previous if previous is not None else Observed(guest, config)
    now = Observed(guest, config, told=kept.told, lost=kept.lost, busy=kept.busy)
    try:
        return _asked(want, reader, now)
    except Silence as error:
        return replace(now, silent=error.message, busy=now.busy or now.lost)


def _asked(want: Wanted, reader: Reader, now: Observed) -> Observed:
    """Ask the agent; raises Silence."""
    guest = now.guest
    if want.action in ("read", "write"):
        count = want.max_bytes if want.action == "read" else len(want.content) + 1
        return replace(now, files={want.path: _file(reader, guest, want.path, count)})
    conditions = [path for path in (want.creates, want.removes) if path is not None]
    if conditions:
        return replace(now, files={path: _file(reader, guest, path, 1) for path in conditions})
    if want.action != "interfaces":
        now = replace(now, info=ask(reader, guest, "info"))
    if want.action in ("interfaces", "info"):
        reached = reach(reader, guest, now.config, want.liked)
        if reached.silent is not None:
            raise Silence(reached.silent)
        now = replace(now, reached=reached)
    if want.action == "info":
        questions = {"os": "get-osinfo", "hostname": "get-host-name"}
        now = replace(now, told={name: _told(reader, guest, question) for name, question in questions.items()})
    return now


def _told(reader: Reader, guest: Guest, question: str) -> Mapping[str, Any]:
    """Return what the agent tells, nothing where it does not know the question or may not answer it."""
    try:
        told: Mapping[str, Any] = ask(reader, guest, question)
    except Refused:
        return {}
    return told


def _file(reader: Reader, guest: Guest, path: str, count: int) -> File | None:
    """Return the beginning of a file, None where there is none."""
    try:
        answer = ask(reader, guest, "file-read", file=path, count=count)
    except ProxmoxError as error:
        if error.status == 500 and _NO_FILE.search(error.message):
            return None
        if error.status == 500 and _DIRECTORY.search(error.message):
            return File(None)
        raise
    content = _bytes(answer["content"])
    # A read that ends where the file does is told as truncated too.
    return File(content, not is_true(answer.get("truncated")))


def _bytes(text: str) -> bytes:
    """Return the bytes that the server has made a text of, a character of each."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _text(content: bytes) -> str:
    """Return the text that the server makes these bytes of; it would make others of anything beyond ASCII."""
    return content.decode("latin-1")


def _how_it_ends(reader: Reader, previous: Observed) -> Observed:
    """Ask after the program. Its end is told once: the agent then forgets it."""
    guest, pid = previous.guest, previous.pid
    now = replace(previous, looks=previous.looks + 1)
    try:
        status = ask(reader, guest, "exec-status", pid=pid)
    except Silence as error:
        if look(reader, guest).status != "running":
            raise _untold(guest, pid, "the guest has stopped meanwhile", error) from error
        return replace(now, silent=error.message)
    except ProxmoxError as error:
        if error.status == 500 and _NO_PID.search(error.message):
            why = "the agent does not know it any more, because it was restarted or because its answer was lost on the way"
            raise _untold(guest, pid, why, error) from error
        raise
    return replace(now, silent=None, ended=status if is_true(status["exited"]) else None)


def _untold(guest: Guest, pid: int | None, why: str, error: ProxmoxError) -> ProxmoxError:
    return ProxmoxError(
        f"The program (PID {pid}) was started in {guest}, and how it ended is not known: {why}.",
        status=error.status,
        request=error.request,
    )


# What is left to do


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the call that is left."""
    plan = _DECIDE[want.action](want, observed, done)
    if observed.silent is not None and observed.ended is None:
        what = f"the guest agent of {observed.guest} to answer"
        return replace(plan, waiting=what, pause=AGENT_PAUSE)
    return plan


def _looking(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Wait for what is asked for and do nothing."""
    if want.action == "interfaces" and observed.reached is not None and not observed.reached.addresses:
        if observed.reached.refusal is not None:
            raise Refused(observed.reached.refusal)
        return Plan(waiting=f"{observed.guest} to have an IP address", pause=AGENT_PAUSE)
    if observed.silent is not None:
        # Where nobody waits for it, a question without an answer is a failure; whether it answers is one itself.
        return Plan(failure=f"The guest agent of {observed.guest} does not answer." if want.action != "ping" else None)
    if want.action == "read":
        file = observed.files[want.path]
        if file is None:
            raise Refused(f"There is no file '{want.path}' in {observed.guest}.")
        if file.content is None:
            raise Refused(f"'{want.path}' in {observed.guest} is a directory, and only a file can be read.")
    return Plan()


def _call(want: Wanted, guest: Guest, command: str, summary: str, **more: Any) -> Call:
    return Call("POST", f"{guest.path}/agent/{command}", summary=f"{summary} {guest}", **more)


def _running(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    program = shlex.join(want.argv)
    if observed.ended is not None:
        return Plan({"ran": [program]}, {"ran": [program]}, failure=_failure(observed))
    if observed.pid is not None:
        what = f"the program (PID {observed.pid}) in {observed.guest} to end"
        return Plan({"ran": [program]}, {"ran": [program]}, waiting=what, pause=min(AGENT_PAUSE, 0.1 * observed.looks))
    if _needless(want, observed) is not None:
        return Plan({"ran": []}, {"ran": []})
    params: dict[str, object] = {"command": list(want.argv)}
    if want.stdin is not None:
        params["input-data"] = _text(want.stdin)
    summary = f"run {want.argv[0]} in"
    call = _call(want, observed.guest, "exec", summary, params=params, secret=frozenset({"input-data"}), once=True)
    return Plan({"ran": []}, {"ran": [program]}, [call], foretold={"rc": 0})


def _needless(want: Wanted, observed: Observed) -> str | None:
    """Return why the program need not run."""
    for path, unless in ((want.creates, True), (want.removes, False)):
        if path is not None and path in observed.files and (observed.files[path] is not None) is unless:
            return f"Did not run it, since '{path}' {'exists' if unless else 'does not exist'}."
    return None


def _exit_code(ended: Mapping[str, Any]) -> int:
    """Return it as Python does: a signal is a negative one."""
    return -int(ended["signal"]) if ended.get("signal") is not None else int(ended.get("exitcode") or 0)


def _failure(observed: Observed) -> str | None:
    ended = observed.ended or {}
    code = _exit_code(ended)
    if code == 0:
        return None
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = _output(ended, "err") or _output(ended, "out")
    return f"The program in {observed.guest} {how}" + (f": {said[-500:].strip()}" if said else ".")


def _writing(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    file = observed.files.get(want.path)
    if file is not None and file.content is None:
        raise Refused(f"'{want.path}' in {observed.guest} is a directory, and a file cannot be written over it.")
    before = {"path": want.path, **(file.shown() if file is not None else {"exists": False})}
    if file is not None and file.whole and file.content == want.content:
        return Plan(before, before)
    params = {"file": want.path, "content": _text(want.content)}
    call = _call(
        want, observed.guest, "file-write", f"write '{want.path}' in", params=params, secret=frozenset({"content"})
    )
    return Plan(before, {"path": want.path, **File(want.content).shown()}, [call])


def _freezing(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    frozen = want.action == "freeze"
    before = {"frozen": observed.frozen}
    if observed.silent is None and observed.frozen is frozen:
        return Plan(before, before)
    call = _call(want, observed.guest, f"fsfreeze-{want.action}", f"{want.action} the file systems of")
    return Plan({"frozen": not frozen}, {"frozen": frozen}, [call])


def _trimming(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    if done or observed.busy:
        lost = f"How the trim of {observed.guest} ended is not known, for it took longer than the server waits for it."
        return Plan({"trimmed": True}, {"trimmed": True}, warnings=() if done and not observed.busy else (lost,))
    return Plan(
        {"trimmed": False}, {"trimmed": True}, [_call(want, observed.guest, "fstrim", "trim the file systems of")]
    )


def _setting(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    before, after = {"password": {want.username: "not known"}}, {"password": {want.username: "set"}}
    if done:
        return Plan(after, after)
    params: dict[str, object] = {"username": want.username, "password": _text(want.password.encode())}
    if want.crypted:
        params["crypted"] = True
    summary = f"set the password of '{want.username}' in"
    call = _call(want, observed.guest, "set-user-password", summary, params=params, secret=frozenset({"password"}))
    return Plan(before, after, [call])


_DECIDE: Mapping[str, Callable[[Wanted, Observed, Sequence[Call]], Plan]] = {
    **dict.fromkeys(("ping", "info", "interfaces", "read"), _looking),
    **dict.fromkeys(("freeze", "thaw"), _freezing),
    "exec": _running,
    "write": _writing,
    "trim": _trimming,
    "password": _setting,
}


def answered(observed: Observed, outcome: Outcome | None) -> Observed:
    """Return what was observed with the answer to a call: the program's PID, what was trimmed, or that it was lost."""
    if outcome is None:
        return replace(observed, lost=True)
    data = outcome.data if isinstance(outcome.data, Mapping) else {}
    told = data.get("result")
    check_answer(observed.guest, told)
    pid = data.get("pid")
    if isinstance(told, Mapping) and isinstance(told.get("paths"), list):
        return replace(observed, told={"trimmed": told["paths"]})
    return replace(observed, pid=int(pid)) if isinstance(pid, (int, str)) and str(pid).isdigit() else observed


# What is returned


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest, and what the action is for."""
    more = _RESULT.get(want.action)
    return {"guest": observed.guest.shown(), **(more(want, observed) if more is not None else {})}


def _agent_result(want: Wanted, observed: Observed) -> dict[str, object]:
    info = observed.info or {}
    commands = sorted(one["name"] for one in info.get("supported_commands") or () if is_true(one.get("enabled")))
    agent = {
        "answers": observed.silent is None,
        "version": info.get("version"),
        "frozen": observed.frozen,
        "commands": commands,
    }
    if want.action != "info":
        return {"agent": agent}
    system = {key.replace("-", "_"): value for key, value in (observed.told.get("os") or {}).items()}
    hostname = (observed.told.get("hostname") or {}).get("host-name")
    return {"agent": agent, "os": system, "hostname": hostname, **_address_result(want, observed)}


def _address_result(want: Wanted, observed: Observed) -> dict[str, object]:
    reached = observed.reached or Reached()
    return {"ip": reached.ip, "addresses": list(reached.addresses), "interfaces": list(reached.interfaces)}


def _exec_result(want: Wanted, observed: Observed) -> dict[str, object]:
    ended, needless = observed.ended or {}, _needless(want, observed)
    streams: dict[str, object] = {}
    for name, key in (("stdout", "out"), ("stderr", "err")):
        text = _output(ended, key)
        truncated = is_true(ended.get(f"{key}-truncated"))
        streams.update({name: text, f"{name}_lines": text.splitlines(), f"{name}_truncated": truncated})
    return {
        "cmd": list(want.argv),
        "pid": observed.pid,
        "rc": 0 if needless is not None else None if observed.ended is None else _exit_code(observed.ended),
        "signal": ended.get("signal"),
        **streams,
        **({"msg": needless} if needless is not None else {}),
    }


def _output(ended: Mapping[str, Any], key: str) -> str:
    return _bytes(str(ended.get(f"{key}-data") or "")).decode("utf-8", "replace").rstrip("\r\n")


def _read_result(want: Wanted, observed: Observed) -> dict[str, object]:
    file = observed.files.get(want.path)
    content = file.content or b"" if file is not None else b""
    return {
        "path": want.path,
        "content": base64.b64encode(content).decode("ascii"),
        "encoding": "base64",
        "size": len(content),
        "truncated": file is not None and not file.whole,
    }


def _write_result(want: Wanted, observed: Observed) -> dict[str, object]:
    file = observed.files.get(want.path)
    shown = file.shown() if file is not None else {"size": None, "checksum": None}
    return {"path": want.path, "size": shown["size"], "checksum": shown["checksum"]}


_RESULT: Mapping[str, Callable[[Wanted, Observed], dict[str, object]]] = {
    **dict.fromkeys(("ping", "info"), _agent_result),
    "interfaces": _address_result,
    "exec": _exec_result,
    "read": _read_result,
    "write": _write_result,
    "freeze": lambda want, observed: {"frozen": observed.frozen},
    "thaw": lambda want, observed: {"frozen": observed.frozen},
    "trim": lambda want, observed: {"trimmed": list(observed.told.get("trimmed") or ())},
}


FEATURE = Feature(wanted, observe, decide, result, answered=answered)

# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any endpoint of the server, as it is; and objects that are only written where they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .endpoints import ALWAYS, defaults_of, meaning, takes_digest, text_of
from .errors import Effect, ProxmoxError, Refused
from .options import find_option, is_disk, is_empty, settle
from .phrases import tells_absence
from .plan import Call, Feature, Outcome, Plan, Reader
from .wire import words

_CONFIG = re.compile(r"/nodes/[^/]+/(qemu|lxc)/\d+/config")


@dataclass(frozen=True)
class Wanted:
    """One request.

    :param secret: names of the parameters that nobody may see.
    :param compare: write only what differs from what :param read_path: answers.
    :param creates: nothing is done where this path answers, :param removes: where it does not.
    """

    method: str
    path: str
    params: Mapping[str, object]
    secret: frozenset[str] = frozenset()
    compare: bool = False
    read_path: str | None = None
    creates: str | None = None
    removes: str | None = None


@dataclass(frozen=True)
class Observed:
    """:param present: the object that is compared, None where there is none. :param needless: creates or removes tell that
    nothing is to be done. :param answer: to the last request."""

    present: Mapping[str, Any] | None = None
    needless: bool = False
    answer: object = None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    secret = options.get("secret_params") or {}
    method, compare = options["method"].upper(), options["compare"]
    if method == "GET" and (compare or secret or options.get("creates") or options.get("removes")):
        raise Refused("compare, creates, removes and secret_params are for requests that write; a GET changes nothing.")
    if options.get("read_path") and not compare:
        raise Refused("read_path says what compare reads; without compare it has no meaning.")
    both = sorted(set(secret) & set(options.get("params") or {}))
    if both:
        raise Refused(f"{', '.join(both)} is in params and in secret_params.")
    return Wanted(
        method,
        _path("path", options["path"]) or "",
        {**(options.get("params") or {}), **secret},
        frozenset(secret),
        compare,
        *(_path(name, options.get(name)) for name in ("read_path", "creates", "removes")),
    )


def _path(option: str, text: str | None) -> str | None:
    """Return a path below /api2/json; Refused where it is none."""
    if text is None:
        return None
    path = "/" + text.strip().removeprefix("/api2/json").strip("/")
    if re.search(r"[?#\s]|//|/\.\.?(/|$)", path):
        raise Refused(f"{option}: '{text}' is no path such as /nodes/pve1/status; parameters go into params.")
    return path


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return what there is: no request for what is neither read nor compared."""
    if want.method == "GET":
        return Observed(
            answer=reader.get(want.path, **{key: text_of(key, value) for key, value in want.params.items()})
        )
    answer = previous.answer if previous is not None else None
    needless = any(
        (path is not None and _read(reader, path) is not None) is there
        for path, there in ((want.creates, True), (want.removes, False))
        if path is not None
    )
    present = None
    if want.compare and not needless:
        try:
            present = _read(reader, want.read_path or want.path)
        except ProxmoxError as error:
            # What was seen a moment ago and may not be seen any more is gone, and the rights on it with it.
            seen = want.method == "DELETE" and previous is not None and previous.present is not None
            if not (seen and error.status == 403):
                raise
        if present is not None and not isinstance(present, Mapping):
            raise Refused(
                f"{want.read_path or want.path} answers with a list, and compare needs an object; name one in read_path."
            )
    return Observed(present, needless, answer)


def _read(reader: Reader, path: str) -> Any:
    """Return what a path answers, None where the object does not exist; an answer without data is an empty object."""
    try:
        found = reader.get(path)
    except ProxmoxError as error:
        if error.effect is Effect.ABSENT or error.status == 404 or tells_absence(error.message):
            return None
        raise
    return {} if found is None else found


def answered(observed: Observed, outcome: Outcome | None) -> Observed:
    """Return what is observed with the answer to the call."""
    return replace(observed, answer=outcome.data if outcome is not None else None)


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the request, where it is not needless; of an object only what differs."""
    if want.method == "GET":
        return Plan()
    here, then = _existence(want)
    if observed.needless:
        return Plan(then, then)
    if want.compare and want.method == "DELETE":
        calls = (_call(want, want.params),) if observed.present is not None else ()
        return Plan({"object": observed.present}, {"object": None}, calls)
    if not want.compare:
        call = _call(want, want.params, once=want.creates is None and want.removes is None)
        return Plan(here, then, () if any(call.same_deed(earlier) for earlier in done) else (call,))
    if observed.present is None:
        raise Refused(
            f"{want.read_path or want.path} does not exist, so there is nothing to compare with; create it first, with creates."
        )
    changed, gone = _differing(want, observed.present)
    named = [key for key in want.params if key not in ("delete", "digest", *want.secret)]
    after = {**{key: text_of(key, want.params[key]) for key in named}, **dict.fromkeys(_to_remove(want))}
    # What means the same is shown as it was asked for, so that a change shows before and after as it was foretold.
    before = {key: observed.present.get(key) if key in (*changed, *gone) else value for key, value in after.items()}
    if not changed and not gone:
        return Plan(after, after)
    along = {key: value for key, value in want.params.items() if key in ALWAYS or key in want.secret}
    params = {**along, **changed}
    if gone:
        params["delete"] = ",".join(gone)
    if observed.present.get("digest") and takes_digest(want.path):
        params["digest"] = observed.present["digest"]
    return Plan(before, after, (_call(want, params),))


def _existence(want: Wanted) -> tuple[dict[str, object], dict[str, object]]:
    """Return what exists before and after the request, as far as creates or removes tell; nothing where they may contradict."""
    if want.creates is not None and want.removes is not None:
        return {}, {}
    if want.creates is not None:
        return {want.creates: None}, {want.creates: "exists"}
    return ({want.removes: "exists"}, {want.removes: None}) if want.removes is not None else ({}, {})


def _differing(want: Wanted, present: Mapping[str, Any]) -> tuple[dict[str, object], list[str]]:
    """Return the parameters that differ from the object, and the names of those that are to be removed from it."""
    guest = _CONFIG.fullmatch(want.path)
    defaults = defaults_of(want.path)
    changed: dict[str, object] = {}
    for key, value in want.params.items():
        if key in ("delete", "digest", *want.secret) or value is None:
            continue
        here = present.get(key)
        if guest is not None:
            same = _same_option(guest[1], key, here, value)
        elif here is None:
            same = is_empty(value) or (key in defaults and meaning(key, defaults[key]) == meaning(key, value))
        else:
            same = meaning(key, here) == meaning(key, value)
        if not same:
            changed[key] = value
    return changed, [name for name in _to_remove(want) if name in present]


def _to_remove(want: Wanted) -> list[str]:
    asked = want.params.get("delete") or ()
    return [str(name) for name in asked] if isinstance(asked, (list, tuple)) else list(words(asked))


def _same_option(kind: str, key: str, present: object, value: object) -> bool:
    """Tell whether an option of a guest means the same already."""
    option = find_option(kind, key)
    if option is None:
        return meaning(key, present) == meaning(key, value)
    if is_disk(kind, key) and present is not None and re.match(r"[^:,]+:\d+(\.\d+)?(,|$)", str(value)):
        raise Refused(
            f"{key}={value} would allocate another disk in place of the one that is there; proxmox_vm_config changes disks."
        )
    try:
        return not settle(option, key, present, text_of(key, value)).changes
    except ValueError as error:
        raise Refused(f"{key}: {error}.") from error


def _call(want: Wanted, params: Mapping[str, object], *, once: bool = False) -> Call:
    sent = {key: text_of(key, value) for key, value in params.items() if value is not None}
    verb = {"PUT": "change", "POST": "post to", "DELETE": "delete"}[want.method]
    named = ", ".join(key for key in sent if key != "digest")
    summary = f"{verb} {want.path}" + (f": {named}" if named and want.method != "DELETE" else "")
    return Call(want.method, want.path, sent, summary, secret=want.secret & set(sent), once=once)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the answer of the server; of a comparison the object."""
    return {"data": observed.present if want.compare and observed.answer is None else observed.answer}


FEATURE = Feature(wanted, observe, decide, result, answered=answered)

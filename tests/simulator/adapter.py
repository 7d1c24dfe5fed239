# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A `requests` transport adapter that asks the cluster in process: no socket, no TLS, virtual time.

Mounted on a session, `https://` requests reach `Cluster.handle`, and what a fault does to a connection becomes the exception that
requests raises for it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3.exceptions import NewConnectionError, ProtocolError
from urllib3.response import HTTPResponse

from .engine.http import Request

if TYPE_CHECKING:
    from .engine.cluster import Cluster


class ClusterAdapter(BaseAdapter):
    """Answers from a cluster. `hosts` maps host names to the node that they reach; others reach the first node."""

    def __init__(self, cluster: Cluster, hosts: dict[str, str] | None = None) -> None:
        super().__init__()
        self.cluster = cluster
        self.hosts = hosts or {}
        self.sent: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """One exchange. Raises what requests raises for dropped connections."""
        self.sent.append(request)
        url = urlsplit(request.url or "")
        node = self.hosts.get(url.hostname or "")
        if node is not None and not self.cluster.nodes[node].online:
            raise requests.exceptions.ConnectTimeout(f"{url.hostname} does not answer", request=request)
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = request.body = b"".join(body)  # it can be read once
        target = url.path + (f"?{url.query}" if url.query else "")
        headers = {str(name): str(value) for name, value in (request.headers or {}).items()}
        answer = self.cluster.handle(Request(request.method or "GET", target, headers, body), node)
        if answer.drop == "refused":
            refused = NewConnectionError(None, "Failed to establish a new connection: [Errno 111] Connection refused")  # type: ignore[arg-type]
            raise requests.exceptions.ConnectionError(refused, request=request)
        if answer.drop in ("reset_before", "reset_after"):
            cause = ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
            raise requests.exceptions.ConnectionError(cause, request=request)
        if answer.drop == "silence":
            timeout = kwargs.get("timeout")
            limit = timeout[1] if isinstance(timeout, tuple) else timeout
            self.cluster.clock.advance(max(0.0, (limit or 60.0) - answer.seconds))
            raise requests.exceptions.ReadTimeout(f"Read timed out. (read timeout={limit})", request=request)
        if answer.drop == "truncate":
            raise requests.exceptions.ChunkedEncodingError(
                ProtocolError("Connection broken: IncompleteRead"), request=request
            )
        response = requests.Response()
        response.status_code = answer.status
        response.reason = answer.reason
        response.headers.update(answer.headers)
        response.raw = HTTPResponse(body=io.BytesIO(answer.body), status=answer.status, preload_content=False)
        response._content = answer.body
        response.encoding = "utf-8"
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        """Nothing to close."""

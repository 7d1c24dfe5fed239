# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTPS to a Proxmox VE cluster: one request, one answer, and what a missing answer means.

The server closes idle connections after 5 s, after 100 requests and after every status of 400 and above
(PVE/APIServer/AnyEvent.pm). Reading requests share a kept connection and may be repeated on a new one; a writing request
always gets a new connection, so that it is never lost on one that was about to close.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import ssl
import threading
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode

from .errors import Effect, ProxmoxError
from .phrases import effect_of_answer, hint_for, hint_for_denial

try:
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter
except ImportError:
    REQUESTS_MISSING: str | None = traceback.format_exc()
    HTTPAdapter = object  # type: ignore[assignment, misc]
else:
    REQUESTS_MISSING = None

CONNECT_SECONDS = 5.0

# Bytes of a file that are read and sent at a time.
UPLOAD_BLOCK = 256 * 1024

# Levels of lists and objects in an answer; the API's own have no more than eight.
DEEPEST = 32

# As urllib3 takes one; shorter ones it would take for MD5 or SHA-1.
_FINGERPRINT = re.compile(r"([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}")

_NO_HOST = re.compile(r"[/@?#\\\s]")

# X509_V_ERR_* of OpenSSL, as ssl.SSLCertVerificationError.verify_code gives them.
_VERDICTS = {
    10: "its certificate has expired",
    9: "its certificate is not valid yet",
    18: "its certificate is self-signed and not trusted",
    19: "its certificate comes from an authority that is not trusted",
    20: "its certificate comes from an authority that is not trusted",
    21: "its certificate comes from an authority that is not trusted",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}


@dataclass(frozen=True)
class Endpoint:
    """Where the API is and how its certificate is judged.

    :param hosts: names or addresses, each perhaps with a port of its own; the first that can be reached is used.
    :param ca_path: file or directory of the authorities to trust instead of the system's.
    :param fingerprint: SHA-256 of the server's certificate; where given, it is the only thing that is checked.
    :param timeout: seconds that the server may be silent.
    """

    hosts: tuple[str, ...]
    port: int = 8006
    validate_certs: bool = True
    ca_path: str | None = None
    fingerprint: str | None = None
    timeout: float = 35.0

    def urls(self) -> list[str]:
        """Return the base URL of each host; raises ProxmoxError for what is none."""
        return [f"https://{_authority(host, self.port)}/api2/json" for host in self.hosts]

    def check_fingerprint(self) -> None:
        """Raise ProxmoxError for a fingerprint that is none."""
        if self.fingerprint is not None and not _FINGERPRINT.fullmatch(self.fingerprint):
            raise ProxmoxError(
                "api_fingerprint is no SHA-256 fingerprint: that has 64 hexadecimal digits, perhaps with colons between the pairs."
            )


def _authority(host: str, port: int) -> str:
    """Return host:port; a port in the host wins, and a bare IPv6 address gets its brackets."""
    host = host.removeprefix("https://").rstrip("/")
    if _NO_HOST.search(host):
        # It may hold a password, so it is not repeated.
        raise ProxmoxError("api_host holds more than a name or an address, perhaps with a port: pve1.example.com:443.")
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    return host if ":" in host.rpartition("]")[2] else f"{host}:{port}"


@dataclass(frozen=True)
class Upload:
    """A local file that is sent along with a request. :param sent: told of the bytes that went out, and of how many there are."""

    path: str
    sent: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Answer:
    """What the server said.

    :param data: the API's data, None where there is none.
    :param total: how many entries there are of which data shows some, where the server counts them.
    :param text: the most telling text there is; servers before 2025 put it in the reason only.
    :param server_time: the server's clock, seconds since the epoch.
    """

    status: int
    data: Any
    text: str
    total: int | None
    server_time: int | None


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Return the TLS settings; raises ProxmoxError where ca_path cannot be used."""
    path = endpoint.ca_path
    checked = endpoint.fingerprint is None and endpoint.validate_certs
    if path is None and checked:
        return default_tls_context()
    try:
        if path is None:
            # Loading the system's authorities takes longer than a request, and nothing would be held against them.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        elif Path(path).is_dir():
            context = ssl.create_default_context(capath=path)
        else:
            context = ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ProxmoxError(
            f"ca_path '{path}' is not a readable file or directory of PEM certificates: {error}"
        ) from error
    _as_lenient_as_a_node(context)
    if not checked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def default_tls_context() -> ssl.SSLContext:
    """Return the TLS settings that trust the system's authorities; loaded once a process and its forks (25 ms)."""
    return _default_tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.cache
def _default_tls_context(file: str | None, directory: str | None) -> ssl.SSLContext:
    """Return what OpenSSL makes of the two variables."""
    context = ssl.create_default_context()
    _as_lenient_as_a_node(context)
    return context


def _as_lenient_as_a_node(context: ssl.SSLContext) -> None:
    """Python 3.13 became stricter than the authority that a cluster has had since before Proxmox VE 9: it names no key usage."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT


class _Adapter(HTTPAdapter):
    """An adapter that uses our TLS settings alone; requests would load its own bundle into them for each connection."""

    def __init__(self, context: ssl.SSLContext, fingerprint: str | None, connections: int) -> None:
        self._pool_options: dict[str, Any] = {"ssl_context": context, "assert_fingerprint": fingerprint}
        super().__init__(max_retries=0, pool_maxsize=connections)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._pool_options)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, **self._pool_options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the connection to the context."""

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, _verify = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}


def _session(adapter: _Adapter) -> Any:
    session = requests.Session()
    session.mount("https://", adapter)
    # Neither .netrc nor another bundle of authorities has a say. Proxies of the environment do, but looking for them anew for each
    # request is a fifth of what a request costs here.
    session.trust_env = False
    return session


class Transport:
    """Sends requests to the first of the hosts that answers."""

    def __init__(self, endpoint: Endpoint, *, connections: int = 10) -> None:
        if REQUESTS_MISSING is not None:
            raise ProxmoxError(
                "The Python package requests is missing on the host that runs this task; install it there."
            )
        self._endpoint = endpoint
        self._urls = endpoint.urls()
        endpoint.check_fingerprint()
        self._proxies: dict[str, dict[str, str]] = {}
        self._turning = threading.Lock()
        context = tls_context(endpoint)
        if not endpoint.validate_certs:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._reading = _session(_Adapter(context, endpoint.fingerprint, connections))
        self._writing = _session(_Adapter(context, endpoint.fingerprint, connections))
        self._writing.headers["Connection"] = "close"

    def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, object],
        headers: Mapping[str, str],
        upload: Upload | None = None,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        :param params: see plan.Call; None values are left out.
        :param headers: the credentials.
        :param upload: a file that is sent along.
        :raises ProxmoxError: with its effect, where no whole answer came.
        """
        pairs = list(_pairs(params))
        unheard: ProxmoxError | None = None
        for url in list(self._urls):
            try:
                return self._send(method, url, path, pairs, headers, upload)
            except ProxmoxError as error:
                unheard = error
                if error.effect is Effect.PERMANENT:
                    raise
                self._put_last(url)
                if error.effect is Effect.AMBIGUOUS and method != "GET":
                    raise
        raise unheard or ProxmoxError("There is no host to ask.")

    def _put_last(self, url: str) -> None:
        """Let the next request begin with a host that may work; of threads that failed together the first does it."""
        with self._turning:
            if self._urls[0] == url:
                self._urls.append(self._urls.pop(0))

    def close(self) -> None:
        """Close the kept connections."""
        self._reading.close()
        self._writing.close()

    def _proxies_for(self, base: str) -> dict[str, str]:
        """Return the proxies that the environment names for a host, looked for once."""
        found = self._proxies.get(base)
        if found is None:
            try:
                found = requests.utils.get_environ_proxies(base)
            except ValueError:
                found = {}  # no URL, as the request will tell
            self._proxies[base] = found
        return found

    def _send(
        self,
        method: str,
        base: str,
        path: str,
        pairs: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        upload: Upload | None,
    ) -> Answer:
        request = f"{method} {path}"
        in_query = method in ("GET", "DELETE")
        url = base + path + ("?" + urlencode(pairs) if in_query and pairs else "")
        session = self._reading if method == "GET" else self._writing
        timeout = (min(CONNECT_SECONDS, self._endpoint.timeout), self._endpoint.timeout)
        with _body(None if in_query else pairs, upload) as (data, kind):
            try:
                # No redirect is followed: the credentials are for this host alone.
                response = session.request(
                    method,
                    url,
                    data=data,
                    headers={**headers, **kind},
                    timeout=timeout,
                    allow_redirects=False,
                    proxies=self._proxies_for(base),
                )
            except (requests.exceptions.RequestException, urllib3.exceptions.LocationParseError) as error:
                raise _no_answer(error, request, base, self._endpoint) from error
        return _read(response, request)


@contextmanager
def _body(pairs: Sequence[tuple[str, str]] | None, upload: Upload | None) -> Iterator[tuple[Any, dict[str, str]]]:
    """Give the body of a request, and the header that tells its type where requests does not know it."""
    if upload is None:
        if all(text for _key, text in pairs or ()):
            yield pairs, {}
        else:
            # In a form the server takes an empty text for none, and forgets the texts of the same name before it
            # (PVE/APIServer/AnyEvent.pm, decode_urlencoded).
            yield _as_json(pairs or ()), {"Content-Type": "application/json"}
        return
    try:
        file = open(upload.path, "rb")  # noqa: SIM115 - opened apart from its use, whose errors are others
    except OSError as error:
        raise ProxmoxError(f"'{upload.path}' cannot be read: {error.strerror}.") from error
    with file:
        body = _Sent(pairs or (), file, upload.sent)
        yield body, {"Content-Type": body.content_type}


def _as_json(pairs: Sequence[tuple[str, str]]) -> bytes:
    """Return an object of them, texts of the same name as a list."""
    lists: dict[str, list[str]] = {}
    for key, text in pairs:
        lists.setdefault(key, []).append(text)
    return json.dumps({key: texts if len(texts) > 1 else texts[0] for key, texts in lists.items()}).encode()


class _Sent:
    """The body of an upload, read as it is sent, so that a file may be larger than the memory.

    The server wants to know the length beforehand, and the file as the last part (PVE/APIServer/AnyEvent.pm,
    file_upload_multipart).
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]], file: BinaryIO, sent: Callable[[int, int], None] | None
    ) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        name = next(value for key, value in pairs if key == "filename")
        parts = [f'name="{key}"\r\n\r\n{value}' for key, value in pairs if key != "filename"]
        parts.append(f'name="filename"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n')
        head = "\r\n".join(f"--{boundary}\r\nContent-Disposition: form-data; {part}" for part in parts).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        self._parts = [io.BytesIO(head), file, io.BytesIO(tail)]
        self._length = len(head) + os.fstat(file.fileno()).st_size + len(tail)
        self._read = 0
        self._sent = sent

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        """Return some bytes, none at the end; more than are asked for at a time, which is few."""
        while self._parts:
            data: bytes = self._parts[0].read(UPLOAD_BLOCK)
            if data:
                self._read += len(data)
                if self._sent is not None:
                    self._sent(self._read, self._length)
                return data
            self._parts.pop(0)
        return b""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")


def _pairs(params: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the parameters as texts: booleans as 1 and 0, which is all that the server takes, lists as repeated keys."""
    for key, value in params.items():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if item is not None:
                yield key, str(int(item)) if isinstance(item, bool) else str(item)


def _no_answer(error: Exception, request: str, url: str, endpoint: Endpoint) -> ProxmoxError:
    """Return what a request without a whole answer means."""
    chain = list(_causes(error))
    host = url.removesuffix("/api2/json")
    verdict = next((cause for cause in chain if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if verdict is not None:
        why = _VERDICTS.get(verdict.verify_code, verdict.verify_message)
        return ProxmoxError(
            f"{host} is not trusted: {why}. Name the authority in ca_path (on a node: /etc/pve/pve-root-ca.pem), pin the "
            "certificate by api_fingerprint, or use the host name that the certificate is for.",
            request=request,
        )
    ended = any(isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) for cause in chain)
    if isinstance(error, requests.exceptions.SSLError) and not ended:
        if endpoint.fingerprint is not None and "ingerprint" in str(error):
            return ProxmoxError(
                f"{host} is not trusted: the SHA-256 fingerprint of its certificate is not the one in api_fingerprint.",
                request=request,
            )
        return ProxmoxError(f"TLS with {host} failed: {chain[-1]}", request=request)
    if isinstance(error, (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError)) or any(
        isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in chain
    ):
        return ProxmoxError(
            f"{host} cannot be reached: {_last_words(chain)}. Check api_host and api_port.",
            effect=Effect.NOT_EXECUTED,
            request=request,
        )
    if isinstance(error, requests.exceptions.InvalidHeader):
        # Its text repeats the header.
        return ProxmoxError(
            "The credentials hold characters that cannot be sent, such as a line break.", request=request
        )
    if isinstance(error, (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError)):
        return ProxmoxError(f"api_host makes no valid URL: {host}", request=request)
    silent = isinstance(error, requests.exceptions.Timeout) or any(
        isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in chain
    )
    why = f"no answer within {endpoint.timeout:g} s" if silent else f"the answer was cut off ({_last_words(chain)})"
    return ProxmoxError(f"{request} at {host}: {why}.", effect=Effect.AMBIGUOUS, request=request)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what caused it; urllib3 keeps causes in arguments and in reason."""
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if one in seen:
            continue
        seen.append(one)
        yield one
        nested = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        waiting += [cause for cause in nested if isinstance(cause, BaseException)]


def _last_words(chain: Sequence[BaseException]) -> str:
    """Return the operating system's own words where there are some."""
    spoken = next((cause for cause in reversed(chain) if isinstance(cause, OSError) and cause.strerror), None)
    return str(spoken.strerror) if spoken is not None else str(chain[-1])


def _read(response: Any, request: str) -> Answer:
    """Return the answer; one that is not the API's is a proxy's, and nobody knows what came before it."""
    body: Any = None
    if response.content:
        try:
            body = _json(response.content)
        except ValueError:
            if response.status_code < 300:
                raise _not_the_api(response, request) from None
    # The API never redirects, and no redirect is followed: the credentials are for this host alone.
    if 300 <= response.status_code < 400 or (response.status_code < 400 and not isinstance(body, (dict, type(None)))):
        raise _not_the_api(response, request)
    if not isinstance(body, dict):
        body = {}
    errors = body.get("errors") or {}
    details = (
        "; ".join(f"{key}: {_in_one_line(str(text))}" for key, text in errors.items())
        if isinstance(errors, dict)
        else ""
    )
    text = str(body.get("message") or response.reason or "").strip()
    return Answer(
        status=response.status_code,
        data=body.get("data"),
        text=f"{text.rstrip('.')} ({details})" if details else text,
        total=body.get("total"),
        server_time=_seconds(response.headers.get("Date")),
    )


def _in_one_line(text: str) -> str:
    """Return what the server says of a parameter; of one that is a property string it says so in a first line of its own."""
    return re.sub(r"\s*\n\s*", "; ", text.strip())


def _json(content: bytes) -> Any:
    """Return what the JSON says; ValueError where it is none, or nested deeper than any answer of the API.

    Bytes that are no UTF-8 and halves of surrogate pairs, which nothing could print, become replacement characters.
    """
    text = content.decode("utf-8", "replace")
    try:
        data = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [data]
    for _level in range(DEEPEST):
        level = [part for one in level for part in _parts(one) if type(part) in (dict, list)]
        if not level:
            return data
    raise ValueError("nested too deeply")


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _seconds(date: str | None) -> int | None:
    """Return a date of HTTP in seconds since the epoch, None where it is none."""
    try:
        return int(parsedate_to_datetime(date).timestamp()) if date else None
    except (ValueError, OverflowError):
        return None


def _not_the_api(response: Any, request: str) -> ProxmoxError:
    kind = response.headers.get("Location") or response.headers.get("Content-Type", "no content type")
    return ProxmoxError(
        f"{request}: the answer is not that of a Proxmox VE API (status {response.status_code}, {kind}). Is there a proxy in "
        "front of it, or is api_port another service's?",
        effect=Effect.AMBIGUOUS if response.status_code < 300 else Effect.PERMANENT,
        status=response.status_code,
        request=request,
    )


def failure(answer: Answer, request: str) -> ProxmoxError:
    """Return the error that an answer of status 400 and above is."""
    text = answer.text or f"status {answer.status}"
    hint = hint_for(text) or hint_for_denial(request, text)
    if answer.status == 595:
        hint = "The node is down or cannot be reached by the node that was asked."
    return ProxmoxError(
        f"{request} failed with status {answer.status}: {text.rstrip('.')}." + (f" {hint}" if hint else ""),
        effect=effect_of_answer(answer.status, text),
        status=answer.status,
        request=request,
    )

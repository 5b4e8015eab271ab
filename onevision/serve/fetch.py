"""https addresses -> bytes, for hosts that are allowed. The only code that opens connections.

An address is taken apart once, and what was checked is what is dialled: the host's name is looked
up once, every address it has must be public, and the connection goes to one of these. Each
redirect begins anew.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from urllib.parse import urljoin, urlsplit

from onevision.serve.schema.problems import ApiError

MAX_REDIRECTS = 3
CONNECT_SECONDS = 5.0
PIECE_BYTES = 1 << 16
Resolve = Callable[[str], Sequence[str]]
Dial = Callable[[str, int, float], socket.socket]


def resolve(host: str) -> Sequence[str]:
    """Return the addresses of a host. Raises OSError."""
    found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """Connect to an IP address. Raises OSError."""
    return socket.create_connection((address, port), timeout=seconds)


class Fetcher:
    """Fetches from `hosts` alone; without hosts, nothing."""

    def __init__(
        self,
        hosts: Sequence[str] = (),
        *,
        seconds: float = 15.0,
        resolve: Resolve = resolve,
        dial: Dial = dial,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.hosts, self.seconds = frozenset(host.lower() for host in hosts), seconds
        self._resolve, self._dial = resolve, dial
        self._context = context or ssl.create_default_context()

    def fetch(self, address: str, *, most: int, kind: str, param: str) -> bytes:
        """Return what an address holds, `most` bytes at most. Raises ApiError."""
        deadline = time.monotonic() + self.seconds
        try:
            for _ in range(MAX_REDIRECTS + 1):
                found = self._get(address, most, deadline)
                if isinstance(found, bytes):
                    return found
                address = urljoin(address, found)
        except _NotAllowedError as error:
            message = f"{param}: {error}"
            raise ApiError(message, status=403, code="url_not_allowed", param=param) from error
        except _TooLargeError as error:
            raise ApiError(
                f"{param}: more than the {most:,} bytes allowed",
                code=f"{kind}_file_too_large",
                param=param,
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failed(kind, param) from error
        raise self._failed(kind, param)

    def _failed(self, kind: str, param: str) -> ApiError:
        return ApiError(
            f"{param}: the {kind} cannot be downloaded; send it as data:{kind}/...;base64,...",
            code=f"failed_to_download_{kind}",
            param=param,
        )

    def _get(self, address: str, most: int, deadline: float) -> bytes | str:
        """Return the bytes at an address, or where it redirects to."""
        host, target = self._checked(address)
        pinned = self._public_address(host)
        left = max(0.1, deadline - time.monotonic())
        raw = self._dial(pinned, 443, min(CONNECT_SECONDS, left))
        with (
            raw,
            self._context.wrap_socket(
                raw, server_hostname=host, do_handshake_on_connect=False
            ) as connection,
            _hanging_up(connection, deadline),
        ):
            connection.do_handshake()
            connection.sendall(
                f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: image/*, video/*\r\n"
                "Accept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii")
            )
            with closing(http.client.HTTPResponse(connection)) as response:
                connection.settimeout(max(0.1, deadline - time.monotonic()))
                response.begin()
                if response.status in (301, 302, 303, 307, 308):
                    return response.getheader("location") or ""
                if response.status != 200:
                    raise OSError("the server refuses")
                if response.getheader("content-encoding", "identity").lower() != "identity":
                    raise OSError("packed, though this was not asked for")
                if (response.length or 0) > most:
                    raise _TooLargeError
                return _read(response, connection, most=most, deadline=deadline)

    def _checked(self, address: str) -> tuple[str, str]:
        """Return the host and the path of an address that may be fetched."""
        if not self.hosts:
            raise _NotAllowedError("this server fetches no addresses; send the data themselves")
        plain = address.isascii() and address.isprintable()
        if not plain or any(character in address for character in ' \\"<>^`{|}'):
            raise _NotAllowedError("the address holds characters that an address has not")
        parts = urlsplit(address)
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme != "https" or parts.port not in (None, 443):
            raise _NotAllowedError("only https addresses of port 443 are fetched")
        if parts.netloc.lower() not in (host, f"{host}:443") or host not in self.hosts:
            raise _NotAllowedError("this host is not on the server's list")
        return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _public_address(self, host: str) -> str:
        addresses = self._resolve(host)
        if not addresses or not all(map(is_public, addresses)):
            raise _NotAllowedError("this host is not on the public internet")
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet, and carries no other inside it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        wrapped = ip in ipaddress.ip_network("64:ff9b::/96") or inner is not None
        return ip.is_global and not wrapped and not ip.is_multicast
    return ip.is_global and not ip.is_multicast


@contextmanager
def _hanging_up(connection: ssl.SSLSocket, deadline: float) -> Iterator[None]:
    """Hang up at the deadline: where bytes drip, no time-out of a single read ever comes."""

    def hang_up() -> None:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.1, deadline - time.monotonic()), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(
    response: http.client.HTTPResponse, connection: ssl.SSLSocket, *, most: int, deadline: float
) -> bytes:
    """Read to the end, as it comes: never inflated, never beyond `most`, never late."""
    data = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        piece = response.read1(PIECE_BYTES)
        if not piece:
            break
        data += piece
        if len(data) > most:
            raise _TooLargeError
    if response.length or time.monotonic() >= deadline:
        raise OSError("cut off")
    return bytes(data)


class _NotAllowedError(Exception):
    """An address that must not be fetched."""


class _TooLargeError(Exception):
    """More bytes than allowed."""

"""URLs of images and videos -> bytes: data URLs decoded, https URLs fetched from allowed hosts.

This is the server's only code that opens connections, and its guard against server-side request
forgery (SSRF): a URL is parsed once and the checked parts are used as they are; the host name is
resolved once, all its addresses must be public, and the connection goes to one of them. Every
redirect is checked again.
"""

import binascii
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from urllib.parse import urljoin, urlsplit

from onevision.serve.generation_request import MediaReference
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import Limits

MAX_REDIRECTS = 3
CONNECT_SECONDS = 5.0
PIECE_BYTES = 1 << 16
PIECE_CHARACTERS = 1 << 22  # of base64, a multiple of 4
# The characters of base64 that some clients escape in a URL.
ESCAPES = {"%2B": "+", "%2F": "/", "%3D": "="}
# Global unicast (RFC 4291): all other IPv6 addresses are special, or embed one of IPv4.
PUBLIC_V6 = ipaddress.ip_network("2000::/3")
# Of these, protocol assignments with Teredo, documentation, 6to4.
SPECIAL_V6 = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)
SPECIAL_V4 = (ipaddress.IPv4Network("192.88.99.0/24"),)  # relays of 6to4
# The last 64 bits of an ISATAP address begin so, up to the bit that says whether it is global.
ISATAP = 0x00005EFE
Resolve = Callable[[str], Sequence[str]]
Dial = Callable[[str, int, float], socket.socket]


def read_media(
    reference: MediaReference, *, fetcher: "Fetcher", limits: Limits
) -> tuple[bytes, ...]:
    """Returns the bytes behind each URL of a reference. Raises ApiError."""
    kind = "video" if reference.kind == "video" else "image"
    most = limits.video_bytes if kind == "video" else limits.image_bytes
    sources = list[bytes]()
    for url in reference.urls:
        if url[:5].lower() == "data:":
            source = _decode_data_url(url, most=most, kind=kind, param=reference.param)
        elif url[:8].lower() == "https://" or url[:7].lower() == "http://":
            source = fetcher.fetch(url, most=most, kind=kind, param=reference.param)
        else:
            raise ApiError(
                f"{reference.param}: expected data:{kind}/...;base64,... or an https URL",
                code=f"invalid_{kind}_url",
                param=reference.param,
            )
        if len(source) > most:
            raise _too_large(len(source), most=most, kind=kind, param=reference.param)
        sources.append(source)
    return tuple(sources)


def _too_large(num_bytes: int, *, most: int, kind: str, param: str) -> ApiError:
    return ApiError(
        f"{param}: {num_bytes:,} bytes are more than the {most:,} allowed",
        code=f"{kind}_file_too_large",
        param=param,
    )


def _decode_data_url(url: str, *, most: int, kind: str, param: str) -> bytes:
    """Decodes `data:<type>[;name=value]*;base64,<data>` (RFC 2397), and nothing looser.

    The length is checked before anything is decoded.
    """
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64") or len(head) > 256:
        raise ApiError(
            f"{param}: expected data:{kind}/...;base64,<data>",
            code=f"invalid_{kind}_url",
            param=param,
        )
    for escape, character in ESCAPES.items():
        if "%" in data:
            data = data.replace(escape, character).replace(escape.lower(), character)
    num_bytes = len(data) // 4 * 3
    if num_bytes > most + 2:
        raise _too_large(num_bytes, most=most, kind=kind, param=param)
    try:
        return _decode_base64(data)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            f"{param}: the data are not base64 (A-Z a-z 0-9 + /, padded with =, no spaces)",
            code=f"invalid_base64_{kind}",
            param=param,
        ) from error


def _decode_base64(data: str) -> bytes:
    """Decodes a piece at a time: one call for all would hold the interpreter's lock for long."""
    if len(data) % 4 or 0 <= data.find("=") < len(data) - 2:
        raise binascii.Error("padding is missing, or within the data")
    pieces = (data[begin : begin + PIECE_CHARACTERS]
              for begin in range(0, len(data), PIECE_CHARACTERS))  # fmt: skip
    return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in pieces)


def resolve(host: str) -> Sequence[str]:
    """Returns the IP addresses of a host. Raises OSError."""
    found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """Connects to an IP address. Raises OSError."""
    return socket.create_connection((address, port), timeout=seconds)


class Fetcher:
    """Fetches https URLs of `hosts`, and of no others; None stands for all public hosts."""

    def __init__(
        self,
        hosts: Sequence[str] | None = (),
        *,
        seconds: float = 15.0,
        resolve: Resolve = resolve,
        dial: Dial = dial,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self.seconds = seconds
        self._resolve, self._dial = resolve, dial
        self._context = context or ssl.create_default_context()

    def fetch(self, url: str, *, most: int, kind: str, param: str) -> bytes:
        """Returns the body at a URL, at most `most` bytes. Raises ApiError."""
        deadline = time.monotonic() + self.seconds
        try:
            for _ in range(MAX_REDIRECTS + 1):
                found = self._get(url, most, deadline)
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
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

    def _get(self, url: str, most: int, deadline: float) -> bytes | str:
        """Returns the body at a URL, or the URL it redirects to."""
        host, target = self._parse(url)
        address = self._resolve_public(host)
        left = max(0.1, deadline - time.monotonic())
        raw = self._dial(address, 443, min(CONNECT_SECONDS, left))
        with (
            raw,
            self._context.wrap_socket(
                raw, server_hostname=host, do_handshake_on_connect=False
            ) as connection,
            _closing_at(connection, deadline),
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
                    raise OSError(f"status {response.status}")
                if response.getheader("content-encoding", "identity").lower() != "identity":
                    raise OSError("compressed, which was not asked for")
                if (response.length or 0) > most:
                    raise _TooLargeError
                return _read(response, connection, most=most, deadline=deadline)

    def _parse(self, url: str) -> tuple[str, str]:
        """Returns host and path of a URL that may be fetched. Raises _NotAllowedError."""
        if self.hosts is not None and not self.hosts:
            raise _NotAllowedError("this server fetches no URLs; send the data itself")
        is_plain = url.isascii() and url.isprintable()
        if not is_plain or any(character in url for character in ' \\"<>^`{|}'):
            raise _NotAllowedError("the URL contains characters that URLs may not contain")
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme != "https" or parts.port not in (None, 443):
            raise _NotAllowedError("only https URLs on port 443 are fetched")
        if self.hosts is None and "@" in parts.netloc:
            raise _NotAllowedError("the URL holds a user name, which is not sent")
        is_listed = self.hosts is None or host in self.hosts
        if parts.netloc.lower() not in (host, f"{host}:443") or not is_listed:
            raise _NotAllowedError("this host is not on the server's list")
        return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _resolve_public(self, host: str) -> str:
        """Returns an address of a host, all of which are public. Raises _NotAllowedError."""
        addresses = self._resolve(host)
        if not addresses or not all(map(is_public, addresses)):
            raise _NotAllowedError("this host is not on the public internet")
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet and embeds no other address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in SPECIAL_V4)
    is_isatap = (int(ip) >> 32) & 0xFDFFFFFF == ISATAP
    is_special = any(ip in network for network in SPECIAL_V6)
    return ip in PUBLIC_V6 and not is_special and not is_isatap


@contextmanager
def _closing_at(connection: ssl.SSLSocket, deadline: float) -> Iterator[None]:
    """Closes the connection at the deadline: a slow drip of bytes never times out a single read."""

    def close() -> None:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.1, deadline - time.monotonic()), close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(
    response: http.client.HTTPResponse, connection: ssl.SSLSocket, *, most: int, deadline: float
) -> bytes:
    """Reads the body as it is sent, at most `most` bytes, until the deadline."""
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
    """A URL that must not be fetched."""


class _TooLargeError(Exception):
    """More bytes than allowed."""

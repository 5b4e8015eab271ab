"""A host and a port -> whether a server can listen there, before it is needed."""

import errno
import socket

from onevision.errors import InputError


def check_port(host: str, port: int) -> None:
    """Refuses an address that a server cannot listen on, before it is needed. Raises InputError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} of {host} is in use; give another --port, or stop its program"
            ) from error
        raise InputError(f"{host}:{port} cannot be listened on ({error.strerror})") from error

"""Runs the server of a store, s3 or gs, until its input ends, and prints its port."""

import logging
import sys


def serve_s3() -> int:
    """Starts moto's server, which speaks S3; returns its port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    return server.get_host_and_port()[1]


def serve_gs() -> int:
    """Starts gcp-storage-emulator's server, which speaks Google's JSON API; returns its port."""
    from gcp_storage_emulator.server import create_server

    logging.disable(logging.CRITICAL)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    return server._api._httpd.server_address[1]


if __name__ == "__main__":
    started = {"s3": serve_s3, "gs": serve_gs}[sys.argv[1]]()
    sys.stdout.write(f"{started}\n")
    sys.stdout.flush()
    sys.stdin.read()
    sys.exit(0)

"""deploy/nginx-replicas.conf with other addresses -> nginx on this machine, for a while.

Only what `on_loopback` names is replaced, and all of it must occur once: where nginx listens,
without TLS; the replicas; the path of affinity.js. The file is included by one with what a
distribution's nginx.conf has, and with a log of which replica answered each request.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"
MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules")
MISSING = "no nginx with njs: apt-get install nginx libnginx-mod-http-js"
# What a system's nginx.conf says around the file.
AROUND = """\
load_module {module};
{user}
daemon off;
pid {directory}/pid;
error_log {directory}/error.log notice;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    log_format places '$affinity\\t$upstream_addr\\t$status\\t$uri';
    access_log {directory}/access.log places;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/replicas.conf;
}}
"""


@dataclass(frozen=True)
class Nginx:
    """The program, and its module for JavaScript."""

    program: str
    module: Path


@dataclass(frozen=True)
class Place:
    """Where a request was answered, as nginx's log says."""

    key: str  # "" where any replica may answer
    asked: tuple[str, ...]  # replicas by address; the last one answered
    status: int
    path: str


def find_nginx() -> Nginx | None:
    """Returns nginx with njs, if this machine has them."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    program = shutil.which("nginx", path=path)
    modules = (Path(folder) / "ngx_http_js_module.so" for folder in MODULES)
    module = next((path for path in modules if path.is_file()), None)
    return Nginx(program, module) if program and module else None


def on_loopback(
    port: int, replicas: Sequence[int], *, has_affinity: bool = True
) -> Mapping[str, str]:
    """Returns what replaces what in the file; without affinity, replicas are chosen at random."""
    listed = "".join(f"    server 127.0.0.1:{one} max_fails=0;\n" for one in replicas)
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "    ssl_certificate /etc/ssl/certs/vision.example.org.pem;\n": "",
        "    ssl_certificate_key /etc/ssl/private/vision.example.org.key;\n": "",
        "    server 127.0.0.1:8001 max_fails=0;\n": listed,
        "    server 127.0.0.1:8002 max_fails=0;\n": "",
        "/etc/nginx/affinity.js": str(DEPLOY / "affinity.js"),
    }
    return changes if has_affinity else changes | {"hash $place consistent;": "random;"}


def write_config(directory: Path, changes: Mapping[str, str], nginx: Nginx) -> Path:
    """Writes the file with changes, and one that includes it; returns the latter's path."""
    text = (DEPLOY / "nginx-replicas.conf").read_text()
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"nginx-replicas.conf has {text.count(old)} times {old!r}, not once")
        text = text.replace(old, new)
    (directory / "replicas.conf").write_text(text)
    return write_around(directory, nginx)


def write_around(directory: Path, nginx: Nginx) -> Path:
    """Writes a file that includes replicas.conf of its directory; returns its path."""
    user = "user root;" if os.getuid() == 0 else ""
    around = AROUND.format(module=nginx.module, user=user, directory=directory)
    (directory / "nginx.conf").write_text(around)
    return directory / "nginx.conf"


@contextmanager
def proxying(config: Path, port: int, nginx: Nginx) -> Iterator[None]:
    """Runs nginx, once it listens on the port, while the context is open."""
    process = subprocess.Popen([nginx.program, "-e", "stderr", "-c", str(config)])
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"nginx did not start; {config.parent}/error.log says why")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def read_places(config: Path) -> list[Place]:
    """Returns where each request so far was answered."""
    lines = (config.parent / "access.log").read_text().splitlines()
    rows = (line.split("\t") for line in lines)
    return [
        Place(key.strip("-"), tuple(asked.replace(" : ", ", ").split(", ")), int(status), path)
        for key, asked, status, path in rows
    ]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

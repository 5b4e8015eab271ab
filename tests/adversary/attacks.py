"""Attacks on a server by many clients of one key, in a process of the lowest priority.

    python -m tests.adversary.attacks http://127.0.0.1:8000 <<< "long answers"       for a second

Attackers share the machine with the server that they attack. With the lowest priority they take
the time that it leaves, and "burn 0.4" lets as many clients use 0.4 of a core without asking for
anything: what another client waits for more than then is the server, not the attackers.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress

from PIL import Image as PIL

from tests.serve.conftest import (
    CHAT,
    GOOD,
    KEY,
    encoded,
    image_part,
    text_part,
    user,
)

MIB = 2**20
NUM_CLIENTS = 16
PRIORITY = os.environ.get("ONEVISION_ATTACK_NICE", "19")
HEAD = b'{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"Hi"}],'


def filled(text, *, separator=b",", size):
    return separator.join([text] * (size // (len(text) + len(separator))))


def scans(count):
    """Returns a progressive JPEG with so many empty scans more."""
    data = encoded(PIL.new("RGB", (1200, 900), "navy"), "JPEG", progressive=True)
    scan = data.rfind(b"\xff\xda")
    return data[:-2] + data[scan:-2] * count + data[-2:]


def request_of(body, *, key=KEY):
    """Returns the bytes of a request, which costs its sender nothing more."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = f"authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\n{own}connection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode() + data


def send(url, data, timeout=30):
    """Sends a request on a connection of its own, and reads the answer."""
    with closing(connect(url)) as connection:
        connection.settimeout(timeout)
        with suppress(OSError):  # an answer may come before all is sent
            connection.sendall(data)
        while connection.recv(65536):
            pass


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def attack_by_slow_bodies(url):
    head = request_of(bytes(90_000)).partition(b"\r\n\r\n")[0]
    with closing(connect(url)) as connection:
        connection.sendall(head + b"\r\n\r\n")
        for _ in range(10):
            connection.sendall(b" ")
            time.sleep(0.2)


def attack_by_not_reading(url):
    with closing(connect(url)) as connection:
        one = (f"GET /page.js HTTP/1.1\r\nhost: 127.0.0.1\r\n"
               f"authorization: Bearer {KEY}\r\n\r\n").encode()  # fmt: skip
        connection.sendall(one * 300)
        time.sleep(3)


def attack_by_leaving(url):
    with closing(connect(url)) as connection:
        connection.sendall(PICTURE)
        time.sleep(0.2)


def attack_by_connections(url):
    opened = []
    with suppress(OSError):
        opened += [connect(url) for _ in range(40)]
    time.sleep(1)
    for connection in opened:
        connection.close()


SCANS = scans(2500)
PICTURE = request_of(GOOD | {"messages": user(image_part(SCANS), text_part())})
LONG = request_of(GOOD | {"max_tokens": 2000, "min_tokens": 2000, "ignore_eos": True})
DEEP = request_of(HEAD + b'"x":[' + filled(b"[]", size=8 * MIB) + b"]}")
WITHOUT_KEY = request_of(bytes(8 * MIB), key=None)
ATTACKS = {
    "JPEGs of 2,500 scans": lambda url: send(url, PICTURE),
    "clients that leave": attack_by_leaving,
    "words with a new salt each": lambda url: send(
        url, request_of(GOOD | {"max_tokens": 8, "cache_salt": str(random.random())})
    ),
    "long answers": lambda url: send(url, LONG, timeout=10),
    "bodies of empty lists": lambda url: send(url, DEEP),
    "bodies that drip": attack_by_slow_bodies,
    "clients that do not read": attack_by_not_reading,
    "8 MiB without a key": lambda url: send(url, WITHOUT_KEY),
    "idle connections": attack_by_connections,
}


class Attackers:
    """A process that attacks a server by one attack at a time."""

    def __init__(self, url):
        words = ["nice", "-n", PRIORITY, sys.executable, "-m", "tests.adversary.attacks", url]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, name):
        """Begins to repeat an attack, or to "burn" a number of cores; returns once it runs."""
        self._tell(name)

    def end(self):
        """Ends it: all its clients are gone. Returns the cores that they have used."""
        return float(self._tell(""))

    def close(self):
        """Ends the process."""
        self._process.communicate()

    def _tell(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the attackers have ended"
        return answer


def attack(url, name):
    """Repeats an attack by NUM_CLIENTS clients until the process is killed."""

    def repeat():
        while True:
            with suppress(OSError):
                ATTACKS[name](url)

    for _ in range(NUM_CLIENTS):
        threading.Thread(target=repeat).start()


def burn(cores):
    """Uses so many cores, by as many clients, until the process is killed."""

    def repeat():
        while True:
            began = time.thread_time()
            while time.thread_time() - began < 0.005:
                pass
            time.sleep(0.005 * NUM_CLIENTS / max(cores, 0.001))

    for _ in range(NUM_CLIENTS):
        threading.Thread(target=repeat).start()


def main(url):
    """Heeds lines of standard input: the name of an attack, then an empty line that ends it."""
    for line in iter(sys.stdin.readline, ""):
        # A child of its own, so that it can be ended at once, and nothing is imported again.
        child, name = os.fork(), line.strip()
        if not child:
            if name.startswith("burn "):
                burn(float(name.removeprefix("burn ")))
            else:
                attack(url, name)
            return
        began = time.monotonic()
        time.sleep(1)
        os.write(1, b"attacking\n")
        sys.stdin.readline()
        os.kill(child, signal.SIGKILL)
        used = os.wait4(child, 0)[2]
        cores = (used.ru_utime + used.ru_stime) / (time.monotonic() - began)
        os.write(1, b"%.3f\n" % cores)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Descriptors from a socket -> confined workers: the process from which all workers are forked.

It loads the decoders once, has one thread and an environment without secrets, and forks a worker in
milliseconds. `zygote.py` runs it as `python -m onevision.inputs.zygote_main DESCRIPTOR SETTINGS`,
the settings as msgpack in hexadecimal.

    parent                              here
                              <-        (0, 0) when it is ready
    FORK and a pipe           ->
                              <-        (0, process id) or (errno, 0)
    REAP and a process id     ->
                              <-        (0, wait status), or (ECHILD, 0) if it still runs
    end of the stream         ->        ends, and so do all workers
"""

import errno
import gc
import os
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection

import msgspec

from onevision.inputs.confinement import die_with_parent, hide_process, offer_to_die
from onevision.inputs.sandbox_worker import SandboxSettings, load_decoders, run_worker

FORK, REAP = 1, 2
ORDER = struct.Struct("=ii")  # what to do, with which process
ANSWER = struct.Struct("=ii")  # errno, value
REAP_SECONDS = 1.0


def main() -> None:
    """Serves the parent until it closes its end."""
    offer_to_die()
    hide_process()
    os.environ.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = msgspec.msgpack.decode(bytes.fromhex(sys.argv[2]), type=SandboxSettings)
    with control, suppress(ConnectionError):
        load_decoders()
        gc.collect()
        gc.freeze()  # so that collections in workers leave shared pages alone
        control.sendall(ANSWER.pack(0, 0))
        while order := _receive_order(control):
            control.sendall(_obey(order, settings))


def _receive_order(control: socket.socket) -> tuple[int, int, list[int]] | None:
    data, descriptors, _, _ = socket.recv_fds(control, ORDER.size, 1)
    if len(data) < ORDER.size:
        return None
    return *ORDER.unpack(data), descriptors


def _obey(order: tuple[int, int, list[int]], settings: SandboxSettings) -> bytes:
    action, process_id, descriptors = order
    try:
        if action == FORK:
            return ANSWER.pack(0, _fork_worker(descriptors[0], settings))
        return ANSWER.pack(0, _reap(process_id))
    except (OSError, IndexError) as error:  # no descriptor arrives if there is no room for it
        return ANSWER.pack(getattr(error, "errno", None) or errno.EMFILE, 0)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_worker(descriptor: int, settings: SandboxSettings) -> int:
    process_id = os.fork()
    if process_id == 0:
        try:
            die_with_parent()
            _close_descriptors(descriptor)
            run_worker(Connection(descriptor), settings)
        finally:
            os._exit(0)
    return process_id


def _close_descriptors(kept: int) -> None:
    """Closes all descriptors but one; the standard ones lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _reap(process_id: int) -> int:
    """Returns the wait status of a worker that has ended or is about to."""
    until = time.monotonic() + REAP_SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(process_id, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    raise ChildProcessError(errno.ECHILD, "still running")


if __name__ == "__main__":
    main()

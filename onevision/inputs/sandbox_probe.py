"""A worker -> what its confinement is worth on this kernel, in one line, by trying to break it.

A worker tries each forbidden act on order. The acts are harmless where they succeed; those on files
are tried in a temporary directory.
"""

import ctypes
import errno
import mmap
import os
import resource
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

# Any other error means that the kernel let the act through.
REFUSALS = frozenset({"EPERM", "EACCES", "EMFILE", "ENOSYS"})
PTRACE_SEIZE, PTRACE_DETACH, CLONE_NEWUSER = 0x4206, 17, 0x10000000
# Lies at the same address in the process that forked the worker.
SHARED = ctypes.create_string_buffer(b"unchanged")


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What holds a worker: the layers that the kernel granted, and what it could still do."""

    held: tuple[str, ...]
    missing: tuple[str, ...]  # each with the kernel's reason
    possible: tuple[str, ...]  # acts that were not refused
    num_acts: int

    @property
    def line(self) -> str:
        """The result in one line, for logs and people."""
        refused = self.num_acts - len(self.possible)
        parts = [f"{refused} of {self.num_acts} forbidden acts refused"]
        if self.possible:
            parts.append(f"STILL POSSIBLE: {', '.join(self.possible)}")
        parts.append(f"in force: {', '.join(self.held) or 'limits only'}")
        if self.missing:
            parts.append(f"not granted: {', '.join(self.missing)}")
        return "; ".join(parts)


def prepare_directory() -> TemporaryDirectory[str]:
    """Makes the directory whose files `kept` and `other` a worker tries to touch. Raises OSError.

    Its reader deletes it.
    """
    directory = TemporaryDirectory(prefix="onevision-probe-")
    for name in ("kept", "other"):
        path = Path(directory.name) / name
        path.write_text("unchanged")
        path.chmod(0o700)
    return directory


def list_possible(outcomes: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the acts that were not refused."""
    return tuple(name for name in ACTS if outcomes[name] not in REFUSALS)


def try_forbidden_acts(directory: str) -> dict[str, str]:
    """Tries every act in this process; returns the name of its errno, "" for an act that was done.

    Call it in a worker that ends afterwards.
    """
    return {name: _try(act, Path(directory)) for name, act in ACTS.items()}


def _try(act: Callable[[Path], object], place: Path) -> str:
    try:
        act(place)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "unknown")
    except AttributeError:  # not Linux: the C library has no such call
        return "ENOSYS"
    return ""


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _copy_memory(function: str) -> None:
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(SHARED), len(SHARED))  # struct iovec
    call = ctypes.CDLL(None, use_errno=True)[function]
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    _check(call(os.getppid(), ctypes.byref(vector), one, ctypes.byref(vector), one, zero))


def _trace() -> None:
    trace = ctypes.CDLL(None, use_errno=True).ptrace
    zero = ctypes.c_ulong(0)
    _check(trace(PTRACE_SEIZE, os.getppid(), zero, zero))
    trace(PTRACE_DETACH, os.getppid(), zero, zero)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _connect() -> None:
    with socket.socket() as opened:
        opened.connect(("127.0.0.1", 9))


def _map_code() -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


def _change_priority() -> None:
    who = (os.PRIO_PROCESS, os.getppid())
    os.setpriority(*who, os.getpriority(*who))


def _make_namespace() -> None:
    _check(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER))


ACTS: dict[str, Callable[[Path], object]] = {
    "read a file": lambda place: os.close(os.open(place / "kept", os.O_RDONLY)),
    "write a file": lambda place: os.close(os.open(place / "new", os.O_WRONLY | os.O_CREAT)),
    "list a directory": os.listdir,
    "ask for a file's size": lambda place: os.stat(place / "kept"),  # noqa: PTH116 one call
    "change a file's mode": lambda place: os.chmod(place / "kept", 0o700),  # noqa: PTH101
    "link a file": lambda place: os.symlink(place / "kept", place / "link"),  # noqa: PTH211
    "make a directory": lambda place: os.mkdir(place / "made"),  # noqa: PTH102
    "rename a file": lambda place: os.rename(place / "other", place / "renamed"),  # noqa: PTH104
    "delete a file": lambda place: os.unlink(place / "kept"),  # noqa: PTH108
    "execute a program": lambda place: os.execv(place / "kept", ["kept"]),
    "open a socket": lambda _: socket.socket().close(),
    "make a pair of sockets": lambda _: [end.close() for end in socket.socketpair()],
    "connect": lambda _: _connect(),
    "read another process's memory": lambda _: _copy_memory("process_vm_readv"),
    "write another process's memory": lambda _: _copy_memory("process_vm_writev"),
    "trace another process": lambda _: _trace(),
    "signal another process": lambda _: os.kill(os.getppid(), 0),
    "change another process's limits": lambda _: resource.prlimit(
        os.getppid(), resource.RLIMIT_CORE
    ),
    "change another process's priority": lambda _: _change_priority(),
    "start a process": lambda _: _fork(),
    "make executable memory": lambda _: _map_code(),
    "make a namespace": lambda _: _make_namespace(),
}

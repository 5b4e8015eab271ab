"""A process -> the same process without rights: layers that the kernel grants, one by one.

    namespaces       own users, network, IPC, mounts: nothing to connect to, no privilege to regain
    limits           no new file descriptor, no bytes to files, no core, little memory, few threads
    capabilities     none, also if the server runs as root
    Landlock         no file, no TCP port, no signal and no tracing beyond itself
    seccomp          only the system calls of `seccomp.py`

Each layer is tried; one that this kernel or container refuses is named in the result.
"""

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onevision.inputs.seccomp import forbid_new_privileges, install_filter

# User, network, IPC, UTS, mount and cgroup namespaces (CLONE_NEW* of linux/sched.h). Not PID: it
# would apply to children only, and there can be none.
NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x00020000 | 0x02000000
MAX_THREADS = 64
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
SIGKILL = 9

# Landlock: the same numbers on all architectures.
CREATE_RULESET, RESTRICT_SELF, GET_VERSION = 444, 446, 1
# Rights on files, on TCP ports and scopes, by the ABI that brought them.
FILE_RIGHTS = {1: 0x1FFF, 2: 0x2000, 3: 0x4000, 5: 0x8000}
PORT_RIGHTS = {4: 0x3}
SCOPES = {6: 0x3}  # abstract Unix sockets, signals


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The layers of the confinement that hold, and what was refused, each with its reason."""

    held: tuple[str, ...]
    refused: tuple[str, ...]


def offer_to_die() -> None:
    """Lets the kernel end this process and its children first when memory runs out (Linux)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def hide_process() -> None:
    """Makes this process unreadable and untraceable for others of its user, root excepted.

    Also suppresses core dumps. Does nothing where there is no prctl (not Linux).
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, ctypes.c_ulong(0))


def die_with_parent() -> None:
    """Lets the kernel kill this process when the thread that forked it ends (Linux)."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(SIGKILL))


def confine(memory_bytes: int) -> Layers:
    """Gives up, for good, every right but computing, `memory_bytes` more and open descriptors.

    Call it with one thread, when everything is loaded. Returns which layers hold; limits always do.
    """
    held, refused = list[str](), list[str]()

    def apply(name: str, act: Callable[[], str | None]) -> None:
        try:
            held.append(act() or name)
        except (OSError, AttributeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            refused.append(f"{name} ({reason})")

    size = _address_space()
    apply("namespaces", _leave_namespaces)
    hide_process()
    _set_limits(size, memory_bytes, own_users="namespaces" in held)
    apply("no capabilities", _drop_capabilities)
    apply("no new privileges", forbid_new_privileges)
    apply("Landlock", _close_file_system)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    apply("system-call filter", install_filter)
    return Layers(held=tuple(held), refused=tuple(refused))


def _call(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _leave_namespaces() -> None:
    _call(_libc().unshare(NAMESPACES))


def _set_limits(size: int | None, memory_bytes: int, *, own_users: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    if own_users:  # otherwise the count is that of all processes of the user
        resource.setrlimit(resource.RLIMIT_NPROC, (MAX_THREADS, MAX_THREADS))
    if size is not None:
        resource.setrlimit(resource.RLIMIT_AS, (size + memory_bytes,) * 2)


def _address_space() -> int | None:
    """Returns the size of this process's address space in bytes, or None without /proc."""
    table = Path("/proc/self/statm")
    if not table.exists():
        return None
    return int(table.read_text().split()[0]) * resource.getpagesize()


def _drop_capabilities() -> None:
    header = struct.pack("=Ii", 0x20080522, 0)  # version 3, this process
    _call(_libc().capset(header, bytes(24)))


def _close_file_system() -> str:
    libc = _libc()
    create = ctypes.c_long(CREATE_RULESET)
    version = _call(libc.syscall(create, None, ctypes.c_size_t(0), GET_VERSION))
    rights = (_rights(table, version) for table in (FILE_RIGHTS, PORT_RIGHTS, SCOPES))
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _call(libc.syscall(create, struct.pack("=3Q", *rights), ctypes.c_size_t(size), 0))
    try:
        _call(libc.syscall(ctypes.c_long(RESTRICT_SELF), rules, 0))
    finally:
        os.close(rules)
    return f"Landlock {version}"


def _rights(table: dict[int, int], version: int) -> int:
    return sum(rights for since, rights in table.items() if since <= version)

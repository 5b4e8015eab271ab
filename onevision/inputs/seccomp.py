"""A process -> the same process, which can make only the system calls that decoding needs.

The filter is an allow-list in classic BPF, installed through ctypes: the one binding on PyPI needs
libseccomp, which minimal images lack. Whatever is not on the list fails with EPERM, so a C library
that probes for something new still decodes, and a self-test can try every act in one process.
System calls of another architecture (which would be numbered differently) end the process.
"""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

# Number of each system call on (x86_64, aarch64); None where it does not exist.
ALLOWED_CALLS: dict[str, tuple[int | None, int | None]] = {
    # The pipe to the parent; no other descriptor is open, and none can be opened.
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "close": (3, 57),
    "fstat": (5, 80), "lseek": (8, 62), "poll": (7, None), "ppoll": (271, 73),
    # Its own memory.
    "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216), "madvise": (28, 233),
    # Its own threads and signal handlers.
    "futex": (202, 98), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128),
    "exit": (60, 93), "exit_group": (231, 94),
    # Facts: about itself, the clock, chance.
    "getpid": (39, 172), "gettid": (186, 178), "getrusage": (98, 165), "sysinfo": (99, 179),
    "getcpu": (309, 168), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169),
    "time": (201, None), "getrandom": (318, 278),
}  # fmt: skip

PROT_EXEC = 0x4
PR_SET_NAME = 15
CLONE_THREAD_FLAGS = 0x100 | 0x800 | 0x10000  # VM | SIGHAND | THREAD: a thread, not a process
CLONE_FORBIDDEN_FLAGS = 0x7E020000 | 0x2000  # new namespaces | PTRACE

# Actions, and offsets in struct seccomp_data (linux/seccomp.h).
KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
# Opcodes (linux/bpf_common.h): load a word, and it with a constant, jump if equal, if not less.
LOAD, AND, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
X32_BIT = 0x40000000
SET_MODE_FILTER, FLAG_TSYNC = 1, 1
PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    audit: int  # AUDIT_ARCH_* of linux/audit.h
    column: int  # in ALLOWED_CALLS
    mmap: int
    mprotect: int
    clone: int
    clone3: int
    tgkill: int
    prctl: int
    prlimit64: int
    seccomp: int


ARCHITECTURES = {
    "x86_64": _Architecture(
        audit=0xC000003E, column=0, mmap=9, mprotect=10, clone=56, clone3=435, tgkill=234,
        prctl=157, prlimit64=302, seccomp=317,
    ),
    "aarch64": _Architecture(
        audit=0xC00000B7, column=1, mmap=222, mprotect=226, clone=220, clone3=435, tgkill=131,
        prctl=167, prlimit64=261, seccomp=277,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Condition:
    """A system call that is allowed if `argument & mask == value` (of its low 32 bits)."""

    number: int
    argument: int
    mask: int
    value: int


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install_filter() -> None:
    """Restricts all threads of this process, for good. Raises OSError if the kernel cannot."""
    code = build_filter(platform.machine(), process_id=os.getpid())
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    forbid_new_privileges()
    number = ctypes.c_long(ARCHITECTURES[platform.machine()].seccomp)
    if libc.syscall(number, SET_MODE_FILTER, ctypes.c_ulong(FLAG_TSYNC), ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def forbid_new_privileges() -> None:
    """Makes set-user-id programs useless to this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, one, zero, zero, zero):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def build_filter(machine: str, *, process_id: int) -> bytes:
    """Returns the BPF program for `machine`, 8 bytes per instruction.

    Raises OSError (ENOSYS) for an architecture without a table.
    """
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    arch = ARCHITECTURES[machine]
    code = [
        _encode(LOAD, constant=ARCH),
        _encode(JUMP_EQUAL, if_true=1, constant=arch.audit),
        _encode(RETURN, constant=KILL_PROCESS),
        _encode(LOAD, constant=NUMBER),
        _encode(JUMP_GREATER_EQUAL, if_false=1, constant=X32_BIT),
        _encode(RETURN, constant=KILL_PROCESS),
    ]
    for numbers in ALLOWED_CALLS.values():
        if (number := numbers[arch.column]) is not None:
            code += _answer(number, ALLOW)
    # The C library then makes threads with `clone`, whose flags a filter can read.
    code += _answer(arch.clone3, ERRNO | errno.ENOSYS)
    for condition in _conditions(arch, process_id):
        code += [
            _encode(JUMP_EQUAL, if_false=5, constant=condition.number),
            _encode(LOAD, constant=ARGUMENTS + 8 * condition.argument),
            _encode(AND, constant=condition.mask),
            _encode(JUMP_EQUAL, if_false=1, constant=condition.value),
            _encode(RETURN, constant=ALLOW),
            _encode(RETURN, constant=ERRNO | errno.EPERM),
        ]
    code.append(_encode(RETURN, constant=ERRNO | errno.EPERM))
    return b"".join(code)


def _conditions(arch: _Architecture, process_id: int) -> tuple[_Condition, ...]:
    whole = 0xFFFFFFFF
    thread, other = CLONE_THREAD_FLAGS, CLONE_FORBIDDEN_FLAGS
    return (
        _Condition(number=arch.mmap, argument=2, mask=PROT_EXEC, value=0),
        _Condition(number=arch.mprotect, argument=2, mask=PROT_EXEC, value=0),
        _Condition(number=arch.clone, argument=0, mask=thread | other, value=thread),
        _Condition(number=arch.tgkill, argument=0, mask=whole, value=process_id),  # abort()
        _Condition(number=arch.prctl, argument=0, mask=whole, value=PR_SET_NAME),
        _Condition(number=arch.prlimit64, argument=0, mask=whole, value=0),  # itself
    )


def _answer(number: int, action: int) -> list[bytes]:
    return [
        _encode(JUMP_EQUAL, if_false=1, constant=number),
        _encode(RETURN, constant=action),
    ]


def _encode(operation: int, *, if_true: int = 0, if_false: int = 0, constant: int) -> bytes:
    """Encodes one instruction, struct sock_filter; jumps skip so many instructions."""
    return struct.pack("=HBBI", operation, if_true, if_false, constant)

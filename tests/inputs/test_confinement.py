"""A decoder that has been taken over can do nothing but compute; decoding still works."""

import io
import json
import platform
import subprocess
import sys

import pytest
import torch
from PIL import Image as PIL

from onevision import Conversation, Image, Message, Text, Video
from onevision.inputs.processor import Processor
from onevision.inputs.sandbox import Sandbox
from onevision.inputs.sandbox_probe import ACTS, list_possible
from onevision.inputs.sandbox_worker import SandboxSettings
from onevision.inputs.seccomp import ALLOWED_CALLS, ARCHITECTURES, build_filter
from tests.serve.media import video


@pytest.fixture(scope="module")
def sandbox():
    opened = Sandbox(SandboxSettings(num_workers=1, require_sandbox=True))
    yield opened
    opened.close()


def test_a_worker_can_do_no_forbidden_act(sandbox):
    confinement = sandbox.probe()
    assert confinement.possible == ()
    assert confinement.num_acts == len(ACTS) > 20
    assert confinement.line.startswith(f"{len(ACTS)} of {len(ACTS)} forbidden acts refused; in ")
    assert "system-call filter" in confinement.held
    assert sandbox.num_restarts == 0


# Acts in a process of its own, with and without confinement.
TRYING = """
import json, sys
from onevision.inputs.confinement import confine
from onevision.inputs.sandbox_probe import prepare_directory, try_forbidden_acts
directory = prepare_directory()
if sys.argv[1] == "confined":
    confine(512 * 2**20)
print(json.dumps(try_forbidden_acts(directory.name)), flush=True)
import os
os._exit(0)
"""


def _outcomes(how):
    told = subprocess.run(
        [sys.executable, "-c", TRYING, how], capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout.splitlines()[-1])


def test_the_acts_are_real_ones():
    """Without confinement nearly all succeed, so a refusal is due to the confinement."""
    free = list_possible(_outcomes("free"))
    # A parent that is no relative may be out of reach already (Yama, an unprivileged user).
    may_fail = {name for name in ACTS if "another process" in name} | {"make a namespace"}
    assert set(ACTS) - may_fail <= set(free)
    assert list_possible(_outcomes("confined")) == ()


SWEEP = """
import ctypes, errno, os, platform, resource
from onevision.inputs.confinement import confine
from onevision.inputs.seccomp import ALLOWED_CALLS, ARCHITECTURES
arch = ARCHITECTURES[platform.machine()]
limited = {arch.mmap, arch.mprotect, arch.clone, arch.clone3, arch.tgkill, arch.prctl}
limited |= {335, 336} if platform.machine() == "x86_64" else set()  # uprobes: for no filter
limited |= {arch.prlimit64} | {numbers[arch.column] for numbers in ALLOWED_CALLS.values()}
libc = ctypes.CDLL(None, use_errno=True)
confine(512 * 2**20)
let_through = []
for number in range(600):
    if number not in limited:
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6)
        if result != -1 or ctypes.get_errno() != errno.EPERM:
            let_through.append(number)
zero = ctypes.c_long(0)
def fails(number, *arguments):
    six = [ctypes.c_long(value) for value in arguments] + [zero] * (6 - len(arguments))
    return libc.syscall(ctypes.c_long(number), *six) == -1 and ctypes.get_errno()
print(let_through)
print(
    fails(arch.clone3) == errno.ENOSYS,
    fails(arch.clone, 17) == errno.EPERM,  # a process
    fails(arch.clone, 0x100 | 0x800 | 0x10000 | 0x20000000) == errno.EPERM,  # in a namespace
    fails(arch.mmap, 0, 4096, 4 | 1, 0x22, -1) == errno.EPERM,
    fails(arch.mprotect, 0, 4096, 4) == errno.EPERM,
    fails(arch.tgkill, os.getppid(), os.getppid()) == errno.EPERM,
    fails(arch.prctl, 4, 1) == errno.EPERM,  # PR_SET_DUMPABLE
    fails(arch.prlimit64, os.getppid(), 0) == errno.EPERM,
    resource.getrlimit(resource.RLIMIT_NOFILE) == (0, 0),
)
"""


def test_every_other_system_call_is_refused():
    """The filter is an allow-list: numbers that no kernel has yet are refused as well."""
    told = subprocess.run([sys.executable, "-c", SWEEP], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["[]", " ".join(["True"] * 9)]


FOREIGN = """
import ctypes
from onevision.inputs.confinement import confine
confine(512 * 2**20)
ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000))  # a number of the x32 interface
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is an interface of x86_64")
def test_calls_of_another_interface_end_the_process():
    told = subprocess.run([sys.executable, "-c", FOREIGN], check=False)
    assert told.returncode == -31, "SIGSYS"


def test_the_filter_exists_for_both_architectures():
    for machine in ("x86_64", "aarch64"):
        assert len(build_filter(machine, process_id=1)) % 8 == 0
        column = ARCHITECTURES[machine].column
        numbers = [numbers[column] for numbers in ALLOWED_CALLS.values() if numbers[column]]
        assert len(set(numbers)) == len(numbers)
    with pytest.raises(OSError, match="no table of system calls for riscv64"):
        build_filter("riscv64", process_id=1)


MEMORY = """
from onevision.inputs.confinement import confine
confine(256 * 2**20)
print(len(bytearray(100 * 2**20)))
try:
    bytearray(300 * 2**20)
except MemoryError:
    print("refused")
"""


def test_memory_is_limited():
    told = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(100 * 2**20), "refused"]


def _images():
    colours = PIL.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 50).convert("RGB")
    exif = PIL.Exif()
    exif[0x0112] = 6
    made = {
        "bmp": (colours, "BMP", {}),
        "gif": (colours.convert("P"), "GIF", {"save_all": True, "append_images": [colours]}),
        "jpeg": (colours, "JPEG", {"exif": exif}),
        "progressive jpeg": (colours, "JPEG", {"progressive": True}),
        "cmyk jpeg": (colours.convert("CMYK"), "JPEG", {}),
        "png": (colours, "PNG", {}),
        "transparent png": (colours.convert("RGBA"), "PNG", {}),
        "large png": (colours.resize((2400, 1600)), "PNG", {"compress_level": 1}),
        "webp": (colours, "WEBP", {}),
        "lossless webp": (colours.convert("RGBA"), "WEBP", {"lossless": True}),
        "animated webp": (colours, "WEBP", {"save_all": True, "append_images": [colours]}),
    }
    for name, (image, form, options) in made.items():
        out = io.BytesIO()
        image.save(out, form, **options)
        yield name, Image(out.getvalue())


VIDEOS = {
    "h264 mp4": {},
    "hevc mp4": {"codec": "libx265"},
    "av1 mp4": {"codec": "libsvtav1"},
    "mpeg4 avi": {"codec": "mpeg4", "form": "avi"},
    "mjpeg avi": {"codec": "mjpeg", "form": "avi", "pixels": "yuvj420p"},
    "vp8 mkv": {"codec": "libvpx", "form": "matroska"},
    "vp9 webm": {"codec": "libvpx-vp9", "form": "webm"},
}


def test_every_format_still_decodes_and_threads_start(sandbox, small_config, tokenizer):
    """Crops from a worker equal those that are cut without confinement."""
    processor = Processor(small_config.inputs, tokenizer)
    media = list(_images())
    media += [(name, Video(video(**how), num_frames=2)) for name, how in VIDEOS.items()]
    for name, medium in media:
        talk = Conversation([Message("user", [medium, Text("?")])])
        own = processor(talk)
        with sandbox.session([medium]) as session:
            outline = processor.outline(talk, facts=session.facts)
            crops = session.cut(outline.layouts, image_mean=small_config.inputs.image_mean)
        told = processor.inputs(processor.example(outline, crops=crops))
        assert torch.equal(told.pixel_values, own.pixel_values), name


# A container whose own filter refuses what the confinement is made of.
HOSTILE = """
import ctypes, errno, logging, platform, sys
from onevision.errors import SandboxError
from onevision.inputs import seccomp
from onevision.inputs.sandbox import Sandbox
from onevision.inputs.sandbox_worker import SandboxSettings
arch = seccomp.ARCHITECTURES[platform.machine()]
code = [seccomp._encode(seccomp.LOAD, constant=seccomp.NUMBER)]
unshare = {"x86_64": 272, "aarch64": 97}[platform.machine()]
for number in (arch.seccomp, unshare, 444):
    code += seccomp._answer(number, seccomp.ERRNO | errno.EPERM)
code = b"".join([*code, seccomp._encode(seccomp.RETURN, constant=seccomp.ALLOW)])
seccomp.forbid_new_privileges()
program = seccomp._Program(len(code) // 8, code)
zero = ctypes.c_ulong(0)
assert ctypes.CDLL(None).prctl(22, ctypes.c_ulong(2), ctypes.byref(program), zero, zero) == 0
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
sandbox = Sandbox(SandboxSettings(num_workers=1))
sandbox.log_confinement()
sandbox.close()
try:
    Sandbox(SandboxSettings(num_workers=1, require_sandbox=True))
except SandboxError as error:
    print(error)
"""


def test_a_kernel_that_refuses_is_named_and_a_strict_sandbox_does_not_start():
    told = subprocess.run(
        [sys.executable, "-c", HOSTILE], capture_output=True, text=True, check=True
    )
    logged, refused = told.stdout.splitlines()
    assert logged.startswith("WARNING media decoders: ")
    assert "STILL POSSIBLE: ask for a file's size" in logged
    assert "start a process" in logged
    for layer in ("namespaces", "Landlock", "system-call filter"):
        assert f"{layer} (Operation not permitted)" in logged
    assert refused.startswith("the media decoders cannot be confined here: ")
    assert refused.endswith("or start without require_sandbox")


ALONE = """
import json, sys
from onevision.inputs import confinement, seccomp
from onevision.inputs.sandbox_probe import list_possible, prepare_directory, try_forbidden_acts
directory = prepare_directory()
if sys.argv[1] == "seccomp":
    seccomp.install_filter()
else:
    seccomp.forbid_new_privileges()
    confinement._close_file_system()
print(json.dumps(list_possible(try_forbidden_acts(directory.name))), flush=True)
import os
os._exit(0)
"""


@pytest.mark.parametrize("layer", ["seccomp", "landlock"])
def test_each_layer_holds_alone(layer):
    """A hole in one is not a hole in the whole. SECURITY.md has the same table."""
    told = subprocess.run(
        [sys.executable, "-c", ALONE, layer], capture_output=True, text=True, check=True
    )
    possible = set(json.loads(told.stdout.splitlines()[-1]))
    if layer == "seccomp":
        assert possible == set()
    else:
        files = {"read", "write", "list", "link", "make a dir", "rename", "delete", "execute"}
        assert not any(name.startswith(tuple(files)) for name in possible)
        assert not possible & {"connect", "trace another process", "signal another process"}
        assert {"start a process", "open a socket"} <= possible

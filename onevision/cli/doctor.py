"""`onevision doctor`: versions, devices, optional packages, and what is missing."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import chain
from pathlib import Path

import typer

from onevision import __version__
from onevision.plural import counted

# "pyarrow>=20; extra == 'data'" -> a package, and the extra that brings it.
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[.*?\])?[^;]*(;.*extra == [\"'](?P<extra>\w+)[\"'])?")


def doctor() -> None:
    """Print versions, devices and optional packages; exit with 1 if a required one is missing."""
    print(f"onevision {__version__}, Python {platform.python_version()}, {platform.platform()}")
    parts = (_processor(), _int8_products(), _accelerators(), _model_cache(), _decoders())
    for line in chain.from_iterable(parts):  # each as soon as it is known: some are measured
        print(line, flush=True)
    missing: list[str] = []
    for extra, names in _requirements().items():
        found = {name: _version(name) for name in names}
        absent = [name for name, number in found.items() if number is None]
        print(f"{extra or 'required':<12}", ", ".join(f"{n} {v or '-'}" for n, v in found.items()))
        if absent and extra:
            print(f"{'':<12} missing {', '.join(absent)}: pip install 'onevision[{extra}]'")
        elif absent:
            missing += absent
    if missing:
        print(f"error: required packages are missing: {', '.join(missing)}", file=sys.stderr)
        raise typer.Exit(1)


def _requirements() -> dict[str, list[str]]:
    """Return the packages of each extra, "" for those that are always needed."""
    found: dict[str, list[str]] = {}
    for requirement in requires("onevision") or []:
        match = REQUIREMENT.match(requirement)
        if match is not None and match["name"] != "onevision":
            found.setdefault(match["extra"] or "", []).append(match["name"])
    found.pop("test", None)
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> Iterator[str]:
    import torch

    from onevision.accelerate.processor import can_multiply
    from onevision.accelerate.threads import VARIABLE, choose_threads

    bf16 = "natively" if can_multiply(torch.bfloat16) else "by emulation (float32 is faster)"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    capability = torch.backends.cpu.get_cpu_capability()
    yield (
        f"{'processor':<12} {_processor_name()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{capability}; multiplies bfloat16 {bf16}"
    )
    most = torch.get_num_threads()
    chosen = counted(choose_threads(), "thread")
    how = f"as {VARIABLE} says" if VARIABLE in os.environ else "the fastest, as measured now"
    yield f"{'threads':<12} {chosen} of {most}, {how}"


def _int8_products() -> Iterator[str]:
    """Tries the kernels of `--quantize int8` on layers of the shapes of 0.5B."""
    import torch

    from onevision.accelerate.int8 import Int8Linear
    from onevision.accelerate.int8_packer import Int8Packer

    packer = Int8Packer(dtype=torch.bfloat16)
    for num_inputs, num_outputs in ((896, 1152), (4864, 896), (1152, 4304)):
        packer.pack(Int8Linear.from_linear(torch.nn.Linear(num_inputs, num_outputs)))
    yield "; ".join([f"{'int8':<12} by {', '.join(packer.counts)}", *packer.reasons])


def _processor_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.machine()


def _accelerators() -> Iterator[str]:
    import torch

    if not torch.cuda.is_available():
        built = (
            f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        )
        yield f"{'GPU':<12} none found (torch {torch.__version__}, {built})"
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield f"{f'cuda:{index}':<12} {device.name}, {device.total_memory / 2**30:.0f} GiB"


def _model_cache() -> Iterator[str]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    state = " (offline: HF_HUB_OFFLINE is set)" if HF_HUB_OFFLINE else ""
    yield f"{'hub cache':<12} {HF_HUB_CACHE}{state}"


def _decoders() -> Iterator[str]:
    """Lets a sandboxed decoder try what it must not be able to do."""
    from onevision.errors import DecodersBusyError, SandboxError
    from onevision.inputs.sandbox import Sandbox
    from onevision.inputs.sandbox_worker import SandboxSettings

    sandbox = Sandbox(SandboxSettings(num_workers=1, num_spare=0))
    try:
        yield f"{'decoders':<12} {sandbox.probe().line}"
    except (SandboxError, DecodersBusyError) as error:
        yield f"{'decoders':<12} {error}"
    finally:
        sandbox.close()

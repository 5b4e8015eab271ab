"""Tests of kernels on this machine and what came of them <-> a small file in the user's cache.

    {"format_version": 1, "conditions": {...}, "sha256": "...",
     "results": {"zentorch 896 x 1152 ...": "wrong products ...", "oneDNN 896 x 1152 ...": ""}}

A result holds under the conditions it was found in: the processor, torch and zentorch down to their
libraries, the number of threads, the variables that choose code in them, and the source of our
kernels and of their test. Under any other, or if the file is in any doubt, they are tested again.
"""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from onevision.errors import InputError
from onevision.files import cache_directory, write_json

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
# What a user sets to have every kernel tested in full at every load, and the values it takes.
VARIABLE = "ONEVISION_KERNEL_TESTS"
REMEMBER, ALWAYS = "remember", "always"
# Variables that choose code in the libraries, by the beginning of their names.
PREFIXES = ("ATEN_", "DNNL_", "FBGEMM_", "MKL_", "ONEDNN_", "TORCH_", "ZEN")
# What of Linux's description of a processor says what it computes, and how.
PROCESSOR = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags",
             "CPU implementer", "CPU part", "CPU revision", "Features")  # fmt: skip
SOURCES = ("int8.py", "int8_kernels.py", "int8_packer.py", "kernel_tests.py")
MAX_BYTES = 1 << 20
# Bits of a file's mode that let others than its owner write.
WRITABLE_BY_OTHERS = 0o022


@dataclass(kw_only=True)
class KernelTests:
    """By the name of a test, what it found wrong under `conditions`: "" if it was passed."""

    path: Path | None = None  # None: nothing is kept
    conditions: Mapping[str, str] = field(default_factory=dict[str, str])
    results: dict[str, str] = field(default_factory=dict[str, str])
    _saved: dict[str, str] = field(default_factory=dict[str, str])

    def save(self) -> None:
        """Writes the file if a test was added; if it cannot be written, says so in the log."""
        if self.path is None or self.results == self._saved:
            return
        content = {
            "format_version": FORMAT_VERSION,
            "conditions": dict(self.conditions),
            "results": self.results,
        }
        try:
            write_json(self.path, content | {"sha256": _digest(content)})
            self.path.chmod(0o600)
        except OSError as error:
            logger.info("%s: kernels are tested again at every load (%s)", self.path, error)
            return
        self._saved = dict(self.results)


def open_tests() -> KernelTests:
    """Returns the tests that were made here before; none if the user wants all at every load.

    Raises InputError for another value of the variable.
    """
    if not wants_memory():
        return KernelTests()
    try:
        conditions = find_conditions()
    except OSError as error:  # from an archive: a source is no file there
        logger.info("kernels are tested at every load (%s)", error)
        return KernelTests()
    name = f"{_digest(conditions)[:32]}.json"
    path = cache_directory() / "kernels" / name
    results = _read(path, conditions)
    return KernelTests(path=path, conditions=conditions, results=results, _saved=dict(results))


def wants_memory() -> bool:
    """Whether tests are remembered, as the user has set it. Raises InputError."""
    value = os.environ.get(VARIABLE) or REMEMBER
    if value not in (REMEMBER, ALWAYS):
        raise InputError(f"{VARIABLE} is {value!r}; expected {REMEMBER!r} or {ALWAYS!r}")
    return value == REMEMBER


def find_conditions() -> dict[str, str]:
    """Returns all that a product depends on besides its layer."""
    own = Path(__file__).parent
    sources = hashlib.sha256(b"".join((own / name).read_bytes() for name in SOURCES))
    settings = {key: value for key, value in os.environ.items() if key.startswith(PREFIXES)}
    return {
        "torch": f"{torch.__version__} {torch.version.git_version}",
        "torch's library": _identity(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"),
        "zentorch": _describe_zentorch(),
        "processor": _describe_processor(),
        "capabilities": json.dumps(torch.cpu.get_capabilities(), sort_keys=True, default=str),
        "threads": str(torch.get_num_threads()),
        "settings": json.dumps(settings, sort_keys=True),
        "onevision": sources.hexdigest(),
    }


def _describe_zentorch() -> str:
    try:
        found = version("zentorch")
    except PackageNotFoundError:
        return "not installed"
    spec = find_spec("zentorch")
    if spec is None or spec.origin is None:
        return found
    return f"{found} {_identity(Path(spec.origin).parent / 'libzentorch.so')}"


def _describe_processor() -> str:
    """Returns what the system says of the first processor, without what changes as it runs."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.platform()}"
    pairs = (line.partition(":")[::2] for line in text.splitlines())
    facts = [f"{key.strip()}: {fact.strip()}" for key, fact in pairs if key.strip() in PROCESSOR]
    return "; ".join([platform.machine(), *facts])


def _identity(library: Path) -> str:
    """Returns what changes if a library is built or installed again."""
    try:
        status = library.stat()
    except OSError:
        return "none"
    return f"{library}:{status.st_size}:{status.st_mtime_ns}"


def _read(path: Path, conditions: Mapping[str, str]) -> dict[str, str]:
    """Returns the tests of a file that is whole, the user's own, and of these conditions."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        logger.warning("%s: ignored, kernels are tested again (%s)", path, error)
        return {}
    why = "of another user" if status.st_uid != os.geteuid() else ""
    why = why or ("writable by others" if status.st_mode & WRITABLE_BY_OTHERS else "")
    results = None if why else _parse(raw, conditions)
    if results is None:
        logger.warning("%s: ignored, kernels are tested again (%s)", path, why or "damaged")
    return results or {}


def _parse(raw: bytes, conditions: Mapping[str, str]) -> dict[str, str] | None:
    """Returns the tests that a file of these conditions holds; None if it is damaged."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.pop("sha256", None) != _digest(content):
        return None
    results = content.get("results")
    is_ours = content.get("format_version") == FORMAT_VERSION
    if not is_ours or content.get("conditions") != conditions or not isinstance(results, dict):
        return None
    return {name: found for name, found in results.items() if isinstance(found, str)}


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

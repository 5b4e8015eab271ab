"""The kinds of devices that a run can be planned for: speed, memory, price."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch

from onevision.errors import ConfigError
from onevision.values import name_closest

GIB = 2**30
# Of a measurement: rows of the factor on the left, and the least time it takes.
MEASURE_ROWS, MEASURE_SECONDS = 512, 0.05


@dataclass(frozen=True, kw_only=True)
class DeviceKind:
    """One kind of device."""

    name: str
    # Dense bf16 matrix products, in operations per second: the maker's data sheet, or for the CPU
    # a measurement.
    peak_flops: float
    # Bytes available to a process.
    memory_bytes: int
    # US dollars per device and hour. ASSUMPTION: about what clouds charged in 2026; prices differ
    # by a factor of three between them.
    price_per_hour: float
    # CUDA's names for devices of this speed. Whole names: an "H100 PCIe" is slower than an "H100".
    driver_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.peak_flops > 0 and self.memory_bytes > 0 and self.price_per_hour >= 0):
            raise ConfigError(
                f"device {self.name}: speed and memory must be above 0, price 0 or up"
            )


def _kind(name: str, *drivers: str, tflops: float, gib: float, price: float) -> DeviceKind:
    return DeviceKind(
        name=name,
        peak_flops=tflops * 1e12,
        memory_bytes=int(gib * GIB),
        price_per_hour=price,
        driver_names=drivers,
    )


H200, H100 = ("NVIDIA H200",), ("NVIDIA H100 80GB HBM3",)
A100_80 = ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe")
A100_40 = ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB")
DEVICES: Mapping[str, DeviceKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            _kind("h200", *H200, tflops=989, gib=139, price=3.50),
            _kind("h100", *H100, tflops=989, gib=79, price=2.80),
            _kind("a100-80gb", *A100_80, tflops=312, gib=79, price=1.80),
            _kind("a100-40gb", *A100_40, tflops=312, gib=39, price=1.30),
            _kind("l40s", "NVIDIA L40S", tflops=362, gib=44, price=1.00),
            _kind("rtx4090", "NVIDIA GeForce RTX 4090", tflops=165, gib=23.5, price=0.45),
            _kind("cpu", tflops=0.9, gib=16, price=0.10),  # two cores with avx512_bf16
        )
    }
)
PEAKS: Mapping[str, float] = MappingProxyType(
    {driver: kind.peak_flops for kind in DEVICES.values() for driver in kind.driver_names}
)


def peak_flops(driver_name: str, *, tflops: float | None = None) -> float | None:
    """Returns the peak of one device in operations per second, by its driver's name for it.

    `tflops` (1e12 operations per second) overrides it. None if it is not known, as for any CPU.
    """
    return PEAKS.get(driver_name) if tflops is None else tflops * 1e12


def get_device_kind(name: str, *, price_per_hour: float | None = None) -> DeviceKind:
    """Returns a kind of device, at another price if one is given. Raises ConfigError."""
    if name not in DEVICES:
        raise ConfigError(f"no device {name!r}{name_closest(name, DEVICES)}")
    kind = DEVICES[name]
    return kind if price_per_hour is None else replace(kind, price_per_hour=price_per_hour)


def find_device(
    device: str, *, width: int, dtype: torch.dtype, memory_gib: float | None = None
) -> DeviceKind:
    """Returns what kind of device is here under torch's name for it, with the memory it has free.

    `memory_gib` replaces that. The speed of a device that the table lacks is measured, by products
    of matrices that are `width` wide. Raises ConfigError for a GPU that is not here.
    """
    place = torch.device(device)
    if place.type == "cuda":
        if not torch.cuda.is_available() or (place.index or 0) >= torch.cuda.device_count():
            raise ConfigError(f"device {device} is not here; take cpu, or check the driver")
        driver = torch.cuda.get_device_name(place)
        free, _ = torch.cuda.mem_get_info(place)
        known = [kind for kind in DEVICES.values() if driver in kind.driver_names]
        kind = known[0] if known else replace(DEVICES["rtx4090"], name=driver)
    else:
        known, free = list[DeviceKind](), free_memory()
        kind = replace(DEVICES["cpu"], name="this CPU")
    if not known:
        kind = replace(kind, peak_flops=measure_flops(place, width=width, dtype=dtype))
    if memory_gib is not None:
        free = int(memory_gib * GIB)
    return replace(kind, memory_bytes=max(1, free))


def measure_flops(device: torch.device, *, width: int, dtype: torch.dtype) -> float:
    """Measures the operations per second of matrix products, for about MEASURE_SECONDS."""
    x = torch.ones(MEASURE_ROWS, width, device=device, dtype=dtype)
    weight = torch.ones(width, 4 * width, device=device, dtype=dtype)

    def multiply(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            x @ weight
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    multiply(1)  # the first one prepares kernels
    count = 1
    while (seconds := multiply(count)) < MEASURE_SECONDS:
        count *= 2
    return count * 2.0 * MEASURE_ROWS * width * 4 * width / seconds


def free_memory() -> int:
    """Returns the bytes that a process of this machine can have, within the limit of its group."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    known = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    free = int(known[1]) * 1024 if known else pages
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.strip().isdigit() and used.strip().isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    return free


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""

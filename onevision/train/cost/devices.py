"""The kinds of devices that a run can be planned for: speed, memory, price."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from onevision.errors import ConfigError

GIB = 2**30


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
        raise ConfigError(f"no device {name!r}; expected one of {', '.join(DEVICES)}")
    kind = DEVICES[name]
    return kind if price_per_hour is None else replace(kind, price_per_hour=price_per_hour)

"""The accelerators of this process, as JAX or torch know them, and what they can do at best."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import jax

PEAK_FLOPS: dict[str, float] = {
    "B200": 2.25e15,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "TPU v6": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
}
"""Dense bfloat16 (float16 before it) FLOP/s of one device, from the makers' data sheets; the first name that fits."""


def device_kinds() -> list[str]:
    """The name of each accelerator that this process computes on; none on a CPU."""
    if torch := _torch_with_cuda():
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [device.device_kind for device in _jax_devices()]


def peak_flops(kind: str) -> float | None:
    """The peak of a device of this kind in FLOP/s, if we know it."""
    return next((peak for name, peak in PEAK_FLOPS.items() if re.search(rf"\b{name}(?!\d)", kind)), None)


def memory_bytes() -> tuple[int, int] | None:
    """The memory in use now and at its peak on the fullest accelerator; None where none tells."""
    if torch := _torch_with_cuda():
        indices = range(torch.cuda.device_count())
        return (
            max(torch.cuda.memory_allocated(index) for index in indices),
            max(torch.cuda.max_memory_allocated(index) for index in indices),
        )
    return fullest(stats for device in _jax_devices() if (stats := device.memory_stats()))


def fullest(memory: Iterable[Mapping[str, int]]) -> tuple[int, int] | None:
    """The largest memory in use and the largest peak, from JAX's statistics of each device."""
    told = list(memory)
    if not told:
        return None
    return max(stats["bytes_in_use"] for stats in told), max(stats["peak_bytes_in_use"] for stats in told)


def _torch_with_cuda() -> Any:
    """torch, if the process has loaded it and it has a GPU: then the training is torch's and JAX stays on the CPU."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _jax_devices() -> list[Any]:
    return [device for device in jax.local_devices() if device.platform != "cpu"]

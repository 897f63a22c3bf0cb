"""Accelerators: their names, and what they can do at best. What needs one to be there is not tested here."""

import jax
import pytest

from toolkit.devices import PEAK_FLOPS, device_kinds, memory_bytes, peak_flops

on_a_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is an accelerator")


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla T4", 65),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
    ],
)
def test_a_device_is_known_by_the_name_that_its_driver_gives(kind: str, tflops: float) -> None:
    """The teraflops of the data sheet, dense: a name within another does not take its place, and JAX calls a v5p v5."""
    assert peak_flops(kind) == tflops * 1e12


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA GeForce RTX 4090", "NVIDIA L40", "NVIDIA T400", "TPU v2", ""])
def test_of_an_unknown_device_nothing_is_said(kind: str) -> None:
    """A wrong peak would make a wrong utilisation: none is better. An L40 is no L4, and a T400 no T4."""
    assert peak_flops(kind) is None


def test_every_name_is_reached() -> None:
    """A name that stands behind a shorter one would never be found."""
    assert {name: peak_flops(name) for name in PEAK_FLOPS} == PEAK_FLOPS


@on_a_cpu
def test_a_cpu_is_no_accelerator() -> None:
    """No name, and no memory of a device: the host's own is told elsewhere."""
    assert device_kinds() == []
    assert memory_bytes() is None

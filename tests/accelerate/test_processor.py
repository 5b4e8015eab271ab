"""In which types a processor multiplies by itself."""

import pytest
import torch

from onevision.accelerate import processor
from onevision.generate.placing import find_dtype

X86 = {"architecture": "x86_64", "avx512_f": True, "avx512_vnni": True}


@pytest.fixture
def on(monkeypatch):
    """A function that lets the processor have some capabilities, where oneDNN takes bf16."""

    def have(capabilities):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
        monkeypatch.setattr(processor, "has_layout", lambda dtype: True)
        processor.can_multiply.cache_clear()

    yield have
    monkeypatch.undo()
    processor.can_multiply.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        (X86, False),  # Skylake to Ice Lake: oneDNN emulates bf16
        (X86 | {"avx512_bf16": True}, True),  # Cooper Lake, Zen 4
        (X86 | {"avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "aarch64"}, True),  # as oneDNN says
    ],
)
def test_emulated_bf16_does_not_count(on, capabilities, native):
    on(capabilities)
    assert processor.can_multiply(torch.bfloat16) is native
    assert processor.can_multiply(torch.float32)
    assert not processor.can_multiply(torch.float16)


def test_a_type_that_is_named_is_taken_all_the_same(on):
    on(X86)
    assert find_dtype("bfloat16", "cpu") == torch.bfloat16

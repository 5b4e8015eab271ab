"""Tests that kernels passed are remembered under their own conditions, and doubted otherwise."""

import json
import logging

import pytest
import torch

from onevision import load
from onevision.accelerate import kernel_tests
from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.int8_kernels import AtenProduct, Int8Kernel
from onevision.accelerate.int8_packer import Int8Packer, PackedInt8Linear
from onevision.accelerate.kernel_tests import VARIABLE, find_conditions, open_tests
from onevision.errors import InputError

CONDITIONS = sorted(find_conditions())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def layer():
    return Int8Linear.from_linear(torch.nn.Linear(72, 400).bfloat16())


def pack(layer, product, name="new"):
    """Packs a layer by a kernel as a load does; returns what was packed, and the most rows."""
    most_rows = []

    class Counting(product):
        def __call__(self, x):
            most_rows.append(len(x))
            return super().__call__(x)

    kernel = Int8Kernel(name=name, find_obstacle=lambda: None, pack=Counting)
    tests = open_tests()
    packer = Int8Packer(dtype=torch.bfloat16, kernels=(kernel,), tests=tests)
    packed = packer.pack(layer)
    tests.save()
    return packed, max(most_rows, default=0), packer.reasons


class WrongInTheMiddle(AtenProduct):
    """Errs in one output of those between the ends."""

    def __call__(self, x):
        y = super().__call__(x)
        y[:, 200] *= 3
        return y


class WrongAtEveryOutput(AtenProduct):
    def __call__(self, x):
        return super().__call__(x) * 1.5


def test_a_test_that_was_passed_is_not_repeated_in_full(layer):
    assert pack(layer, AtenProduct)[1] == 729
    packed, most_rows, _ = pack(layer, AtenProduct)
    assert isinstance(packed, PackedInt8Linear)
    assert most_rows == 5


def test_a_kernel_that_has_become_wrong_is_found_out_all_the_same(layer):
    pack(layer, AtenProduct)
    packed, most_rows, (reason,) = pack(layer, WrongAtEveryOutput)
    assert packed is layer
    assert most_rows == 5
    assert reason.startswith("new, 72 x 400: wrong products of 5 rows, by 0.")


class Fails(AtenProduct):
    def __call__(self, x):
        raise RuntimeError(f"no memory for {len(x)} rows")


def test_a_wrong_kernel_is_not_tried_again_and_its_fault_still_told(layer):
    packed, most_rows, (reason,) = pack(layer, WrongInTheMiddle)
    assert (packed, most_rows) == (layer, 729)
    assert reason.startswith("new, 72 x 400: wrong products of 729 rows, by ")
    assert pack(layer, WrongInTheMiddle) == (layer, 0, [reason])


def test_a_kernel_that_raised_an_error_is_tried_again(layer):
    for _ in range(2):
        _, most_rows, (reason,) = pack(layer, Fails)
        assert most_rows == 1
        assert reason == "new, 72 x 400: fails: no memory for 1 rows"
    assert isinstance(pack(layer, AtenProduct)[0], PackedInt8Linear)


def test_another_shape_type_or_kernel_has_a_test_of_its_own(layer):
    pack(layer, AtenProduct)
    wider = Int8Linear.from_linear(torch.nn.Linear(72, 401).bfloat16())
    bare = Int8Linear.from_linear(torch.nn.Linear(72, 400, bias=False).bfloat16())
    assert pack(wider, AtenProduct)[1] == 729
    assert pack(bare, AtenProduct)[1] == 729
    assert pack(layer, AtenProduct, name="other")[1] == 729


@pytest.mark.parametrize("key", CONDITIONS)
def test_results_of_other_conditions_are_not_used(layer, key, caplog):
    """Another processor, torch, zentorch, number of threads, source: even in a file so named."""
    pack(layer, AtenProduct)
    path = open_tests().path
    content = json.loads(path.read_text())
    del content["sha256"]
    content["conditions"][key] += " of another"
    path.write_text(json.dumps(content | {"sha256": kernel_tests._digest(content)}))
    assert pack(layer, AtenProduct)[1] == 729
    assert f"{path}: ignored, kernels are tested again (damaged)" in caplog.text
    assert pack(layer, AtenProduct)[1] == 5  # written again


def test_threads_and_variables_of_the_libraries_are_conditions(layer, monkeypatch):
    before = find_conditions()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert find_conditions() != before
    finally:
        torch.set_num_threads(threads)
    assert find_conditions() == before
    pack(layer, AtenProduct)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert pack(layer, AtenProduct)[1] == 729


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def change_a_name(path):
    path.write_text(path.read_text().replace('"new 72', '"new 73'))


def fill_with_something_else(path):
    path.write_text("[" * 100_000)


def open_to_all(path):
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "damaged"),
        (change_a_name, "damaged"),
        (fill_with_something_else, "damaged"),
        (open_to_all, "writable by others"),
    ],
)
def test_a_file_in_doubt_is_ignored_and_the_log_says_so(layer, damage, why, caplog):
    pack(layer, AtenProduct)
    path = open_tests().path
    damage(path)
    assert pack(layer, AtenProduct)[1] == 729
    assert f"{path}: ignored, kernels are tested again ({why})" in caplog.text


def test_a_cache_that_cannot_be_written_costs_time_alone(layer, cache, caplog):
    cache.write_text("a file in the place of the directory")
    caplog.set_level(logging.INFO)
    for _ in range(2):
        assert pack(layer, AtenProduct)[1] == 729
    assert "kernels are tested again at every load" in caplog.text


def test_a_user_can_have_every_test_at_every_load(layer, monkeypatch, cache):
    monkeypatch.setenv(VARIABLE, "always")
    for _ in range(2):
        assert pack(layer, AtenProduct)[1] == 729
    assert not cache.exists()
    monkeypatch.setenv(VARIABLE, "never")
    with pytest.raises(InputError, match=f"{VARIABLE} is 'never'; expected 'remember' or 'always'"):
        load("tiny", quantize="int8")


def test_a_load_remembers_the_kernels_of_its_layers(cache):
    first = load("tiny", quantize="int8")
    (path,) = (cache / "kernels").iterdir()
    content = json.loads(path.read_text())
    kernel = first.arithmetic.split(" by ")[1].split(",")[0].rstrip(")")
    assert any(name.startswith(f"{kernel} ") for name in content["results"])
    written = path.stat().st_mtime_ns
    again = load("tiny", quantize="int8")
    assert path.stat().st_mtime_ns == written
    assert again.arithmetic == first.arithmetic
    assert again.ask("What is this?").text == first.ask("What is this?").text

"""Fixtures of all tests: small random models of true geometry, drawn pictures, real inputs."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PIL

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.checkpoint.hub import BUNDLED
from onevision.config import InputConfig, LanguageConfig, ModelConfig, VisionConfig
from onevision.inputs.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden"
# Continuous integration sets ONEVISION_NO_SKIPS: there, none of these may be skipped.
NEVER_SKIPPED = ("real", "browser", "distributed", "lmms", "nginx")


# Files that take longest, which begin first: of files that are dealt out to workers, the last one
# decides when all are done.
LONGEST = (
    *("train/test_rounds.py", "train/test_dpo_run.py", "train/test_resume.py"),
    *("train/test_gloo.py", "train/test_finetune.py", "train/test_kill.py"),
    *("data/test_loader.py", "science/test_study.py", "serve/test_deadlines.py"),
    *("train/test_adapters_run.py", "train/test_own_data.py", "train/test_faults.py"),
    *("train/test_train.py", "train/test_evaluation.py", "test_anyres.py"),
)


def pytest_collection_modifyitems(items):
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    for item in items:
        if "real_data" in item.fixturenames:
            item.add_marker("real")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    required = any(item.get_closest_marker(name) for name in NEVER_SKIPPED)
    if report.skipped and required and os.environ.get("ONEVISION_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def golden() -> dict:
    return json.loads((GOLDEN / "token_counts.json").read_text())


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The embedded model's tokenizer: ids 0 to 4 are the control tokens."""
    return Tokenizer.from_directory(BUNDLED["tiny"])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real inputs; tests that need them skip where they are absent."""
    beside = Path(__file__).parents[2] / "shared" / "real"
    path = Path(os.environ.get("ONEVISION_REAL_DATA", beside))
    if not (path / "MANIFEST.csv").is_file():
        pytest.skip("real inputs are absent; set ONEVISION_REAL_DATA")
    return path


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    """The released geometry (27 x 27 patches, 36 grids) at toy widths."""
    return ModelConfig(
        vision=VisionConfig(hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4),
        language=LanguageConfig(
            vocab_size=4200,
            hidden_size=48,
            intermediate_size=64,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
        ),
        inputs=InputConfig(image_token_id=3),
    )


@pytest.fixture(scope="session")
def micro_config() -> ModelConfig:
    """Crops of 4 x 4 patches: for tests about order and shapes that need no true geometry."""
    crop = {"crop_size": 56, "patch_size": 14}
    return ModelConfig(
        vision=VisionConfig(
            hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, image_size=56
        ),
        language=LanguageConfig(
            vocab_size=4200,
            hidden_size=32,
            intermediate_size=48,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            max_positions=2048,
        ),
        inputs=InputConfig(
            image=AnyRes(**crop),
            multi_image=SingleCrop(**crop),
            video=VideoRule(**crop),
            image_token_id=3,
        ),
    )


@pytest.fixture(scope="session")
def picture() -> Callable[..., PIL.Image]:
    """Return a maker of pictures of noise: picture(width, height, seed=0)."""

    def make(width: int, height: int, *, seed: int = 0) -> PIL.Image:
        rng = np.random.default_rng(seed)
        return PIL.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    return make


def randomise(network: torch.nn.Module, *, std: float = 0.15) -> torch.nn.Module:
    """Fill a network with normal noise, so that every parameter matters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return network.eval()


@pytest.fixture
def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

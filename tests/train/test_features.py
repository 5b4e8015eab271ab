"""Features of a frozen vision encoder that are computed once."""

from dataclasses import replace

import pytest
import torch

from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.features import FeatureStore, keep_features
from tests.conftest import randomise
from tests.train.runs import MICRO, OPTIONS, SHORT, Told, loss_values, run

FROZEN = replace(
    SHORT, num_samples=8, trainable=("projector", "language_model"), vision_learning_rate=None
)


@pytest.fixture
def encoder():
    return randomise(LlavaNetwork(MICRO)).vision_encoder.requires_grad_(False)


@pytest.fixture
def counted(encoder, tmp_path):
    """The encoder with kept features, and how many crops it was asked for each time."""
    counts, compute = [], encoder.forward

    def forward(pixel_values):
        counts.append(len(pixel_values))
        return compute(pixel_values)

    encoder.forward = forward
    options = replace(OPTIONS, features=str(tmp_path / "features"))
    keep_features(encoder, FROZEN, options, warn=pytest.fail)
    return encoder, counts


def crops(*seeds):
    return torch.stack(
        [torch.randn(3, 56, 56, generator=torch.Generator().manual_seed(s)) for s in seeds]
    )


def files(directory):
    return sorted(directory.rglob("*.safetensors"))


def test_a_crop_is_encoded_once(counted):
    encoder, counts = counted
    first = encoder(crops(0, 1, 2))
    again = encoder(crops(2, 3, 0))
    assert counts == [3, 1]
    assert torch.equal(again[[2, 0]], first[[0, 2]])
    assert not first.requires_grad


def test_features_are_those_of_the_encoder(encoder, tmp_path):
    expected = encoder(crops(0, 1))
    options = replace(OPTIONS, features=str(tmp_path))
    keep_features(encoder, FROZEN, options, warn=pytest.fail)
    for _ in range(2):
        assert torch.equal(encoder(crops(0, 1)), expected)


def test_other_weights_and_other_arithmetic_have_files_of_their_own(counted, tmp_path):
    encoder, _ = counted
    encoder(crops(0))
    with torch.autocast("cpu", torch.bfloat16):
        encoder(crops(0))
    other = randomise(LlavaNetwork(MICRO), std=0.3).vision_encoder
    keep_features(other, FROZEN, replace(OPTIONS, features=str(tmp_path / "features")), warn=print)
    other(crops(0))
    homes = {path.parent.parent.name for path in files(tmp_path / "features")}
    assert len(homes) == len(files(tmp_path / "features")) == 3
    assert sum(home.endswith("-bfloat16") for home in homes) == 1


def test_a_damaged_file_is_made_again(counted, tmp_path):
    encoder, counts = counted
    first = encoder(crops(0))
    (path,) = files(tmp_path / "features")
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(encoder(crops(0)), first)
    assert torch.equal(encoder(crops(0)), first)
    assert counts == [1, 1]


def test_a_disk_that_refuses_is_said_once(encoder, tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    store = FeatureStore(tmp_path / "file", encoder, warn=said.append)
    for seed in range(2):
        assert store.encode(crops(seed), encoder.forward).shape == (1, 16, 16)
    (message,) = said
    assert "no more features are kept" in message


def test_a_run_with_kept_features_learns_the_same(tmp_path):
    plain = Told(output=tmp_path / "plain", stage=FROZEN, options=OPTIONS)
    run(plain)
    for name in ("first", "second"):  # the second finds all of them
        run(plain.but(output=tmp_path / name, features=str(tmp_path / "features")))
        assert loss_values(tmp_path / name) == pytest.approx(
            loss_values(tmp_path / "plain"), rel=1e-5
        )
    assert loss_values(tmp_path / "first") == loss_values(tmp_path / "second")
    assert files(tmp_path / "features")


def test_features_of_an_encoder_that_learns_are_refused(tmp_path):
    told = Told(output=tmp_path / "run", options=replace(OPTIONS, features=str(tmp_path)))
    with pytest.raises(ConfigError, match="stage short trains it; leave out `features`"):
        run(told)
    encoder = LlavaNetwork(MICRO).vision_encoder
    options = replace(OPTIONS, features="x", sharing="shard")
    with pytest.raises(ConfigError, match="features cannot be kept with sharing=shard"):
        keep_features(encoder, FROZEN, options, warn=print)

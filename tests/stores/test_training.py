"""Training from shards in a bucket, with snapshots in it, by the command and the real clients."""

import os
import signal
import subprocess

import pytest

from onevision.train.saving.place import open_place
from onevision.train.snapshots import snapshots, step_of
from tests.data.shards import gib, make_shards, write_mixture, write_store
from tests.stores.conftest import forget_clients
from tests.train.runs import SHORT, Told, lines, loss_values, losses, tensors, wait_for_line
from tests.train.runs import run as train
from tests.train.test_streaming import command, run, start

# gcsfs gives aiohttp more than it likes at once.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Gives the following commands an empty cache that holds a part of the shards."""
    largest = max(map(len, make_shards("tar", count=6, each=8).values()))

    def use(name):
        monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / name))
        monkeypatch.setenv("ONEVISION_SHARDS_GIB", gib(4 * largest))

    return use


def upload(protocol, kind, *, folder="caps", count=6):
    """Writes shards into a bucket with the store's own client; returns the address of all."""
    fs = forget_clients(protocol)
    for name, content in make_shards(kind, count=count, each=8).items():
        fs.pipe(f"bucket/{folder}/{name}", content)
    return f"{protocol}://bucket/{folder}/caps-{{000..{count - 1:03}}}.{kind}"


@pytest.mark.parametrize("protocol", ["s3", pytest.param("gs", marks=pytest.mark.slow), "hf"])
def test_a_run_reads_from_a_bucket_and_resumes_from_it(protocol, tmp_path, caches, request):
    front = request.getfixturevalue(protocol)
    caches("local")
    local = write_mixture(tmp_path / "local.yaml", write_store(tmp_path / "store", count=3))
    whole = Told(output=tmp_path / "whole", stage=SHORT.learning_from(str(local)))
    whole = whole.but(save_steps=1, num_workers=0)
    train(whole)
    place = tmp_path / "snapshots"
    if protocol == "hf":  # which is read alone
        front.hub.files |= make_shards("tar", count=3, each=8)
        mixture = "hf://datasets/owner/charts/*.tar"
    else:
        place = open_place(f"{protocol}://bucket/runs/a")
        mixture = upload(protocol, "tar", count=3)
    caches("first")
    stage = SHORT.learning_from(str(write_mixture(tmp_path / "m.yaml", mixture)))
    told = whole.but(output=tmp_path / "a", stage=stage, snapshots=str(place), save_async=True)
    train(told.but(stop_after=2))
    assert [step_of(one) for one in snapshots(place)][-1] == 2
    assert not list((tmp_path / "a").glob("step-*"))
    caches("second")
    train(told.but(output=tmp_path / "b"))
    assert losses(tmp_path / "a") + losses(tmp_path / "b") == losses(whole.output)
    assert tensors(place) == tensors(whole.output)
    assert any("caps-001.tar" in line for line in front.requests)


@pytest.mark.parametrize(("protocol", "kind"), [("s3", "tar"), ("s3", "parquet"), ("gs", "tar")])
@pytest.mark.slow
def test_a_run_killed_on_one_machine_goes_on_from_a_bucket_on_another(
    protocol, kind, small, tmp_path, caches, request
):
    request.getfixturevalue(protocol)
    caches("local")
    local = write_mixture(tmp_path / "local.yaml", write_store(tmp_path / "store", kind))
    run(*command(local, small, tmp_path / "whole", "num_workers=0"))
    mixture = write_mixture(tmp_path / "m.yaml", upload(protocol, kind))
    address = f"{protocol}://bucket/runs/a"
    caches("first")
    told = (f"snapshots={address}", "save_async=true", "num_workers=2")
    with start(*command(mixture, small, tmp_path / "a", *told), stderr=subprocess.DEVNULL) as child:
        try:
            wait_for_line(tmp_path / "a", 3)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
    place = open_place(address)
    assert snapshots(place)
    caches("second")
    run(*command(mixture, small, tmp_path / "b", f"snapshots={address}", "num_workers=1"))
    begun = len(lines(tmp_path / "whole")) - len(lines(tmp_path / "b"))
    assert 1 <= begun < 12
    assert loss_values(tmp_path / "b") == loss_values(tmp_path / "whole")[begun:]
    assert tensors(place) == tensors(tmp_path / "whole")

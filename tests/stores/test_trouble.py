"""What the real clients meet: refused, gone, changed, slow, cut off, silent. One line each."""

import multiprocessing as mp
import sys

import fsspec
import pytest
from typer.testing import CliRunner

from onevision.cli import app
from onevision.data.remote import fetch as fetch_module
from onevision.data.remote.cache import ShardCache
from onevision.data.remote.listing import find_shards
from onevision.data.sources import open_source
from onevision.errors import CheckpointError, ConfigError, DataError, OneVisionError
from onevision.train.saving.place import open_place, remove
from onevision.train.snapshots import newest_snapshot, read_state
from tests.data.shards import parquet_shard, tar_shard, write_mixture
from tests.stores.child import fetch_one
from tests.stores.conftest import forget_clients
from tests.stores.front import SLOW_DOWN

DENIED = b"<Error><Code>%s</Code><Message>Not for you.</Message></Error>"


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch, tmp_path):
    monkeypatch.setattr(fetch_module, "WAITS_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cache(tmp_path):
    return ShardCache(directory=tmp_path / "shards", max_bytes=10**7)


def put(protocol, **shards):
    fs = fsspec.filesystem(protocol)
    for name, numbers in shards.items():
        fs.pipe(f"bucket/a/{name}.tar", tar_shard(numbers))


def refused(act, *args, error=DataError):
    with pytest.raises(error) as found:
        act(*args)
    assert "\n" not in str(found.value)
    return str(found.value)


# Listings


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_listings_are_those_of_now(protocol, request):
    request.getfixturevalue(protocol)
    put(protocol, x=range(2))
    fsspec.filesystem(protocol).pipe("bucket/a/", b"")  # as consoles make a folder
    patterns = [f"{protocol}://bucket/{one}" for one in ("a", "a/*.tar", "*/?.tar", "**/*.tar")]
    for pattern in patterns:
        assert [one.name for one in find_shards(pattern)] == ["x.tar"], pattern
    before = find_shards(patterns[0])
    put(protocol, x=range(3), y=range(2))
    for pattern in patterns:
        now = find_shards(pattern)
        assert [one.name for one in now] == ["x.tar", "y.tar"], pattern
        assert now[0] != before[0]
    fsspec.filesystem(protocol).rm("bucket/a/x.tar")
    assert [one.name for one in find_shards(patterns[0])] == ["y.tar"]
    assert "a/x.tar: nothing is there" in refused(find_shards, f"{protocol}://bucket/a/x.tar")


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_what_is_not_there_is_named(protocol, request):
    request.getfixturevalue(protocol)
    put(protocol, x=range(2))
    cases = {
        "none/a.tar": "nothing is there; check the address",
        "none/*.tar": "nothing is there; check the address",
        "none/{0..3}.tar": "none/0.tar: no such shard, as 4 of 4 shards are missing",
        "bucket/a/{x,y}.tar": "bucket/a/y.tar: no such shard, as 1 of 2 shards are missing",
        "bucket/a/z*.tar": "no shard fits this pattern",
        "buck*/a/x.tar": "it has a pattern where a bucket is expected; name the bucket",
    }
    for address, said in cases.items():
        assert said in refused(find_shards, f"{protocol}://{address}"), address


def test_a_folder_that_cannot_be_listed_is_not_left_out(s3):
    put("s3", x=range(2))
    fsspec.filesystem("s3").pipe("bucket/b/y.tar", tar_shard(range(2)))
    s3.fail("prefix=b", 403, DENIED % b"AccessDenied")
    said = refused(find_shards, "s3://bucket/*/?.tar")
    assert said.startswith("s3://bucket/*/?.tar: cannot be read (Not for you.); check the cred")


def test_a_listing_is_asked_for_again(s3):
    put("s3", x=range(2))
    fsspec.filesystem("s3").pipe("bucket/b/y.parquet", parquet_shard(range(40), group_rows=1))
    s3.fail("prefix=a", 500, DENIED % b"InternalError", times=6)
    assert [one.name for one in find_shards("s3://bucket/a/*")] == ["x.tar"]
    s3.fail("y.parquet", "cut", times=6)
    assert len(open_source("s3://bucket/b/y.parquet")) == 40


@pytest.mark.parametrize("code", [b"AccessDenied", b"InvalidAccessKeyId", b"SignatureDoesNotMatch"])
def test_wrong_credentials_are_said_once(s3, code, cache):
    put("s3", x=range(2))
    (shard,) = find_shards("s3://bucket/a/x.tar")
    s3.fail("bucket", 403, DENIED % code)
    for address in ("s3://bucket/a", "s3://bucket/a/*.tar", "s3://bucket/a/{x,y}.tar"):
        said = refused(find_shards, address)
        assert "cannot be read (" in said
        assert "check the credentials" in said
    refused(find_shards, "s3://bucket/a/x.tar")
    s3.requests.clear()
    assert "x.tar: cannot be read (" in refused(cache.fetch, shard)
    assert len(s3.requests) < 5  # what is refused is not tried again
    said = refused(open_place, "s3://bucket/runs/a", error=ConfigError)
    assert "s3://bucket/runs/a: cannot be written to (" in said


def test_no_credentials_profiles_or_packages_are_named(s3, monkeypatch, tmp_path):
    put("s3", x=range(2))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    forget_clients("s3")
    assert "NoCredentialsError: Unable to locate cred" in refused(find_shards, "s3://bucket/a")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    forget_clients("s3")
    assert "The config profile (nobody) could not" in refused(find_shards, "s3://bucket/a")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})  # as FSSPEC_S3 sets it
    assert [one.name for one in find_shards("s3://bucket/a")] == ["x.tar"]
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "s3fs", None)
        absent.delitem(sys.modules["fsspec.registry"]._registry, "s3")
        said = refused(find_shards, "s3://bucket/a")
    assert said.endswith("needs a package that is not installed: pip install 'onevision[s3]'")


def test_a_dataset_of_the_hub_is_one_of_now(hf, cache, monkeypatch):
    hf.hub.files |= {f"data/train-{n}.tar": tar_shard(range(n, n + 2)) for n in range(2)}
    hf.hub.files["README.md"] = b"hello"
    repository = "hf://datasets/owner/charts"
    for one in ("@main/data/*.tar", "/data", "/**/train-?.tar", "/data/train-{0,1}.tar"):
        found = find_shards(repository + one)
        assert [shard.name for shard in found] == ["train-0.tar", "train-1.tar"], one
        for number, shard in enumerate(found):
            with cache.hold(shard) as path:
                assert path.read_bytes() == tar_shard(range(number, number + 2))
    hf.hub.files["data/train-0.tar"] = tar_shard(range(5))
    again = ShardCache(directory=cache.directory / "again", max_bytes=10**7)
    assert "train-0.tar: it has changed since" in refused(again.fetch, found[0])
    assert find_shards(f"{repository}/data/*")[0].size == len(tar_shard(range(5)))
    del hf.hub.files["data/train-1.tar"]
    assert "train-1.tar: nothing is there" in refused(again.fetch, found[1])
    for one in ("/none/a.tar", "/none/*.tar", "/README.md/*.tar", "2/data"):
        said = refused(find_shards, repository + one)
        assert "nothing is there; check the address, and the rights" in said or "no shard" in said
    hf.fail("charts", 503, times=1)
    assert find_shards(f"{repository}/data")
    hf.hub.token = "hf_secret"
    assert "check the address, and the rights" in refused(find_shards, f"{repository}/data")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert find_shards(f"{repository}/data")
    assert not list((cache.directory / "again").glob("*.tar*"))


# Fetching


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_a_busy_store_is_waited_for(protocol, request, cache):
    front = request.getfixturevalue(protocol)
    put(protocol, x=range(2))
    (shard,) = find_shards(f"{protocol}://bucket/a/x.tar")
    front.fail("GET .*x.tar", 503, SLOW_DOWN, times=2)
    with cache.hold(shard) as path:
        assert path.read_bytes() == tar_shard(range(2))


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_a_connection_that_breaks_is_made_again(protocol, request, cache):
    front = request.getfixturevalue(protocol)
    put(protocol, x=range(2))
    (shard,) = find_shards(f"{protocol}://bucket/a/x.tar")
    front.fail("GET .*x.tar", "cut", times=2)
    with cache.hold(shard) as path:
        assert path.read_bytes() == tar_shard(range(2))


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_a_shard_that_vanishes_or_changes_is_named_and_leaves_nothing(protocol, request, cache):
    request.getfixturevalue(protocol)
    put(protocol, x=range(2), y=range(2))
    x, y = find_shards(f"{protocol}://bucket/a/{{x,y}}.tar")
    fsspec.filesystem(protocol).rm("bucket/a/x.tar")
    assert "a/x.tar: nothing is there; check the address" in refused(cache.fetch, x)
    put(protocol, y=range(2, 4))
    assert "a/y.tar: it has changed since it was listed (" in refused(cache.fetch, y)
    assert [one.name for one in cache.directory.iterdir()] == ["lock"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_other_processes_have_clients_of_their_own(s3, cache, method):
    put("s3", x=range(2))
    (shard,) = find_shards("s3://bucket/a/x.tar")
    context = mp.get_context(method)
    child = context.Process(target=fetch_one, args=(shard.address, cache.directory))
    child.start()
    child.join(240)
    assert child.exitcode == 0
    assert cache.has(shard)
    assert find_shards("s3://bucket/a/x.tar") == [shard]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_a_server_that_says_nothing_is_given_up(protocol, request, cache, monkeypatch):
    front = request.getfixturevalue(protocol)
    put(protocol, x=range(2))
    (shard,) = find_shards(f"{protocol}://bucket/a/x.tar")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(fetch_module, "MAX_SILENT_SECONDS", 30.0)
    forget_clients(protocol)
    front.fail("bucket", "hang")
    assert "cannot be read (" in refused(cache.fetch, shard)


# Snapshots


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_a_store_that_cannot_be_asked_is_not_one_without_snapshots(protocol, request):
    front = request.getfixturevalue(protocol)
    place = open_place(f"{protocol}://bucket/runs/a")
    assert newest_snapshot(place, warn=pytest.fail) is None
    for name, content in (("manifest.json", b'{"files": {}}'), ("state.json", b"{}")):
        with (place / "step-00000001" / name).open("wb") as file:
            file.write(content)
    assert newest_snapshot(place, warn=pytest.fail) == place / "step-00000001"
    for fits in ("bucket", "manifest"):
        front.fail(fits, 403, DENIED % b"AccessDenied")
        with pytest.raises(OSError, match="."):
            newest_snapshot(place, warn=pytest.fail)
        front.heal()
    front.fail("state.json", 403, DENIED % b"AccessDenied")
    said = refused(read_state, place / "step-00000001", error=CheckpointError)
    assert "runs/a/step-00000001" in said
    assert "check the credentials and the network, then start it again" in said
    front.heal()
    remove(place / "step-00000001")
    assert not list(place.glob("*"))


def test_the_command_refuses_in_one_line(s3, tmp_path):
    put("s3", x=range(2))
    s3.fail("bucket", 403, DENIED % b"InvalidAccessKeyId")
    mixture = write_mixture(tmp_path / "m.yaml", "s3://bucket/a/*.tar")
    done = CliRunner().invoke(app, ["data", "check", str(mixture)])
    assert done.exit_code == 1
    assert "s3://bucket/a/*.tar: cannot be read (Not for you.)" in done.stdout
    told = ["train", "onevision", "--from", "tiny", "--mixture", str(mixture)]
    done = CliRunner().invoke(app, [*told, "-o", str(tmp_path / "run")])
    assert isinstance(done.exception, OneVisionError)
    assert "cannot be read (Not for you.); check the credentials" in str(done.exception)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()

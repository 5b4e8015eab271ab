"""Mixtures whose shards lie in stores: the same samples, a bounded cache, clear refusals."""

import multiprocessing as mp
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pytest

from onevision.data.index import open_index
from onevision.data.loader import Loader
from onevision.data.manifest import apply_manifest, write_manifest
from onevision.data.mixture import open_mixture
from onevision.data.order import Order
from onevision.data.packs import pack
from onevision.data.parquet_source import _read_sizes
from onevision.data.planner import make_plan
from onevision.data.quarantine import Quarantine
from onevision.data.remote import cache as cache_module
from onevision.data.remote import fetch as fetch_module
from onevision.data.remote.ahead import ReadAhead, read_ahead
from onevision.data.remote.cache import ShardCache, open_cache
from onevision.data.remote.listing import expand_ranges, find_shards
from onevision.data.remote.traffic import count_traffic
from onevision.data.sources import open_source
from onevision.data.workers import Workers
from onevision.errors import DataError, ShardError
from tests.data.shards import MAKERS, gib, make_shards, tar_shard, write_mixture, write_store

MAX_TOKENS = 400


@pytest.fixture
def memory():
    """An empty store in this process's memory."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr(fetch_module, "WAITS_SECONDS", (0.0, 0.0))


def held(cache):
    """Return the sizes of the shards in a cache."""
    return {p.name: p.stat().st_size for p in cache.directory.iterdir() if p.name != "lock"}


def load(reader, *, first=0, num_workers=0):
    """Return the samples of packs from `first` on, and their ids and pixels."""
    plan = make_plan(reader, num_workers=0)
    order = Order(plan.restrict(reader.mixture), seed=3, epoch=0)
    packs = pack(plan.lengths(order), max_tokens=MAX_TOKENS)
    quarantine = Quarantine(directory=None, num_samples=len(order))
    loader = Loader(
        reader=reader, order=order, packs=packs, quarantine=quarantine, num_workers=num_workers
    )
    return [
        (one.samples, [(row.input_ids.tolist(), int(row.crops.sum())) for row in one.rows])
        for one in loader.load(range(first, len(packs)))
    ]


# The same samples


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_each_sample_comes_once_whatever_the_workers_and_where_it_begins(
    kind, tmp_path, make_reader, monkeypatch
):
    address = write_store(tmp_path / "store", kind)
    largest = max(file.stat().st_size for file in (tmp_path / "store").iterdir())
    monkeypatch.setenv("ONEVISION_SHARDS_GIB", gib(3 * largest))
    reader = make_reader(write_mixture(tmp_path / "mixture.yaml", address))
    whole = load(reader)
    rows = [row for samples, _ in whole for _, row in samples]
    assert sorted(rows) == list(range(48))
    assert rows != sorted(rows)
    for first, workers in ((0, 2), (2, 1), (3, 0)):
        assert load(reader, first=first, num_workers=workers) == whole[first:]
        assert sum(held(open_cache()).values()) <= 3 * largest
    local = open_mixture(tmp_path / "store")
    for row in (0, 17, 47):
        theirs = reader.mixture.datasets[0].source.read(row).fields
        assert theirs["image"] == local.datasets[0].source.read(row).fields["image"]


def test_addresses_are_braces_patterns_folders_files_and_a_command_argument(memory):
    for name, content in make_shards("tar", count=3, each=2).items():
        memory.pipe(f"/bucket/a/{name}", content)
    memory.pipe("/bucket/a/_SUCCESS", b"")
    for address in (
        "memory://bucket/a/caps-{000..002}.tar",
        "memory://bucket/a/caps-00{0,1,2}.tar",
        "memory://bucket/a/*.tar",
        "memory://bucket/a",
        "memory://bucket/a/",
    ):
        source = open_source(address)
        assert len(source) == 6, address
        assert [shard.name for shard in source.shards] == [f"caps-00{n}.tar" for n in range(3)]
        assert source.read(5).fields["id"] == "5"
    typed = Path("memory://bucket/a/caps-001.tar")  # as a command line has it
    assert len(open_mixture(typed)) == 2


def test_symbolic_links_are_shards_too(tmp_path):
    write_store(tmp_path / "blobs", count=2, each=2)
    (tmp_path / "links").mkdir()
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    folder = f"file://{tmp_path}/links"
    for address in (folder, f"{folder}/*.tar", f"{folder}/caps-{{000..001}}.tar"):
        source = open_source(address)
        assert [source.read(row).fields["id"] for row in range(4)] == list("0123"), address


def test_braces():
    assert expand_ranges("s3://b/{8..11}.tar")[::3] == ["s3://b/8.tar", "s3://b/11.tar"]
    assert expand_ranges("s3://{a,b}/{00..01}")[1:3] == ["s3://a/01", "s3://b/00"]
    for wrong in ("{3..1}", "{a}", "{}", "{a..b}"):
        with pytest.raises(DataError, match=r"expected \{0000\.\.0099\} or \{a,b\}"):
            expand_ranges(f"s3://b/{wrong}")


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_an_order_reads_few_shards_at_a_time(kind, tmp_path):
    address = write_store(tmp_path / "store", kind, count=12, each=16)
    mixture = open_mixture(write_mixture(tmp_path / "mixture.yaml", address))
    for epoch in (0, 1):
        rows = Order(mixture, seed=0, epoch=epoch).rows
        assert sorted(rows) == list(range(192))
        windows = [{int(row) // 16 for row in part} for part in np.split(rows, 3)]
        assert [len(window) for window in windows] == [4, 4, 4]
        assert set().union(*windows) == set(range(12))
    uses = [mixture.datasets[0].source.shards[row // 16] for row in rows]
    size = max(shard.size for shard in uses)
    assert count_traffic(uses, max_bytes=4 * size + 1).repeats == 1
    assert count_traffic(uses, max_bytes=2 * size + 1).repeats > 4


def test_a_source_travels_to_workers_as_paths(tmp_path):
    import pickle

    source = open_source(write_store(tmp_path / "store", count=1, each=200))
    assert source.members[0].rows.nbytes > 10_000
    travelled = pickle.dumps(source)
    assert len(travelled) < 6_000
    assert pickle.loads(travelled).read(199).fields["id"] == "199"


def test_one_of_those_who_want_an_index_builds_it(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    built, everyone = [], threading.Barrier(4)

    def build(file):
        built.append(file)
        time.sleep(0.05)
        yield from (0, 1)

    def want(_):
        everyone.wait()
        return open_index(tmp_path / "a.json", build, columns=2).rows.tolist()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(want, range(4))) == [[[0, 1]]] * 4
    assert len(built) == 1


# The cache


def test_the_least_recently_used_shard_goes_and_one_that_is_read_stays(memory, tmp_path):
    for name in "abcd":
        memory.pipe(f"/b/{name}.tar", name.encode() * 100)
    a, b, c, d = find_shards("memory://b/{a,b,c,d}.tar")
    cache = ShardCache(directory=tmp_path / "cache", max_bytes=250)
    cache.fetch(a)
    cache.fetch(b)
    cache.fetch(a)
    cache.fetch(c)
    assert [cache.has(one) for one in (a, b, c)] == [True, False, True]
    with cache.hold(a) as path:
        cache.fetch(c)
        cache.fetch(d)
        assert cache.has(a)
        assert path.read_bytes() == b"a" * 100
    assert sum(held(cache).values()) == 200


def test_a_shard_that_is_larger_than_the_cache_is_refused(memory, monkeypatch):
    memory.pipe("/b/a.tar", tar_shard(range(3)))
    monkeypatch.setenv("ONEVISION_SHARDS_GIB", gib(1000))
    with pytest.raises(DataError, match=r"a\.tar: it takes .* MiB, more than the cache") as found:
        open_source("memory://b/a.tar")
    assert "set ONEVISION_SHARDS_GIB" in str(found.value)
    for wrong in ("many", "0", "-1", "nan"):
        monkeypatch.setenv("ONEVISION_SHARDS_GIB", wrong)
        with pytest.raises(DataError, match="expected a number of GiB above 0"):
            open_cache()


def read_at_random(address, seed, seconds):
    """Read shards at random through the cache; a process of its own."""
    source = open_source(address)
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        row = int(rng.integers(len(source)))
        if source.read(row).fields["id"] != str(row):
            os._exit(3)


def test_processes_share_a_cache_that_never_exceeds_its_limit(tmp_path, monkeypatch):
    address = write_store(tmp_path / "store")
    shards = find_shards(address)
    limit = int(2.5 * max(shard.size for shard in shards))
    monkeypatch.setenv("ONEVISION_SHARDS_GIB", gib(limit))
    context = mp.get_context("spawn")
    children = [context.Process(target=read_at_random, args=(address, n, 4.0)) for n in range(2)]
    for child in children:
        child.start()
    cache, most = open_cache(), 0
    while any(child.is_alive() for child in children):
        if cache.directory.is_dir():
            with cache._locked():  # so that none renames what is being counted
                found = held(cache)
            most = max(most, sum(found.values()))
        time.sleep(0.002)
    assert [child.exitcode for child in children] == [0, 0]
    assert 0 < most <= limit


class SlowStore(fsspec.AbstractFileSystem):
    """Shards of zeros that take their time, cut off or fail; its class says which."""

    protocol = "slow"
    SIZE = 3 * 2**20
    opened = 0
    broken = 0
    pause = 0.0

    class NoCredentialsError(Exception):
        """As of botocore: not an OSError."""

    def info(self, path, **kwargs):
        if "secret" in path:
            raise self.NoCredentialsError("Unable to locate credentials\nsecond line")
        return {"name": path, "size": self.SIZE, "type": "file", "ETag": '"1"'}

    def _open(self, path, mode="rb", **kwargs):
        SlowStore.opened += 1
        short = SlowStore.opened <= SlowStore.broken
        return SlowFile(0 if short else self.SIZE, SlowStore.pause)


class SlowFile:
    def __init__(self, size, pause):
        self.left, self.pause = size, pause

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read(self, count):
        time.sleep(self.pause)
        count = min(count, 2**16, self.left)
        self.left -= count
        return bytes(count)


@pytest.fixture
def slow(monkeypatch):
    fsspec.register_implementation("slow", SlowStore, clobber=True)
    for name, value in (("opened", 0), ("broken", 0), ("pause", 0.0)):
        monkeypatch.setattr(SlowStore, name, value)
    return SlowStore


def test_a_question_whether_it_has_changed_is_asked_again(slow, tmp_path, monkeypatch):
    (shard,) = find_shards("slow://b/a.tar")
    cache = ShardCache(directory=tmp_path / "cache", max_bytes=slow.SIZE)
    info, left = slow.info, [ConnectionError("reset"), ConnectionError("reset")]

    def fail_twice(store, path):
        if left:
            raise left.pop()
        return info(store, path)

    monkeypatch.setattr(slow, "info", fail_twice)
    cache.fetch(shard)
    assert slow.opened == 3


def test_a_parquet_shard_that_changes_before_its_end_is_read_is_refused(memory):
    memory.pipe("/b/a.parquet", MAKERS["parquet"](range(4)))
    (shard,) = find_shards("memory://b/a.parquet")
    memory.pipe("/b/a.parquet", MAKERS["parquet"](range(6)))
    with pytest.raises(DataError, match=r"a\.parquet: it has changed since it was listed"):
        list(_read_sizes(shard))


def test_a_connection_that_breaks_is_tried_again(slow, tmp_path):
    (shard,) = find_shards("slow://b/a.tar")
    cache = ShardCache(directory=tmp_path / "cache", max_bytes=slow.SIZE)
    slow.broken = 2
    cache.fetch(shard)
    assert slow.opened == 3
    slow.broken = 9
    (other,) = find_shards("slow://b/b.tar")
    with pytest.raises(DataError, match=r"b\.tar: cannot be read \(it ended after 0 of 3,145,728"):
        cache.fetch(other)
    assert not cache.has(other)
    assert not list(cache.directory.glob("*.partial"))


def test_threads_that_want_one_shard_fetch_it_once(slow, tmp_path):
    (shard,) = find_shards("slow://b/a.tar")
    cache = ShardCache(directory=tmp_path / "cache", max_bytes=slow.SIZE)
    slow.pause = 0.01
    threads = [threading.Thread(target=cache.fetch, args=(shard,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow.opened == 1


def fetch_slowly(directory):
    fsspec.register_implementation("slow", SlowStore, clobber=True)
    SlowStore.pause = 600.0
    (shard,) = find_shards("slow://b/a.tar")
    ShardCache(directory=Path(directory), max_bytes=SlowStore.SIZE).fetch(shard)


def test_what_a_killed_process_was_fetching_is_not_read_and_takes_no_room(slow, tmp_path):
    cache = ShardCache(directory=tmp_path / "cache", max_bytes=slow.SIZE)
    child = mp.get_context("spawn").Process(target=fetch_slowly, args=(str(cache.directory),))
    child.start()
    end = time.monotonic() + 120
    while not list(cache.directory.glob("*.partial")):
        assert time.monotonic() < end
        time.sleep(0.01)
    shard, other = (find_shards(f"slow://b/{name}.tar")[0] for name in "ab")
    with cache._locked():  # whoever begins a shard gives it its length before it lets go
        assert sum(held(cache).values()) == slow.SIZE  # its room is taken
    assert not cache.has(shard)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    cache.fetch(other)
    assert list(held(cache).values()) == [slow.SIZE]
    assert cache.has(other)


def test_a_full_disk_is_one_line_and_leaves_nothing(slow, tmp_path, monkeypatch):
    (shard,) = find_shards("slow://b/a.tar")
    cache = ShardCache(directory=tmp_path / "cache", max_bytes=2 * slow.SIZE)
    usage = cache_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        cache_module.shutil, "disk_usage", lambda path: usage._replace(free=slow.SIZE - 1)
    )
    with pytest.raises(DataError) as found:
        cache.fetch(shard)
    said = str(found.value)
    assert "slow://b/a.tar (3 MiB) cannot be written (No space left on device" in said
    assert "make room, or set $ONEVISION_CACHE" in said
    assert "\n" not in said
    assert held(cache) == {}


# Refusals


def test_what_cannot_be_had_is_one_line(memory, slow, tmp_path):
    memory.pipe("/b/a-0.tar", tar_shard(range(2)))
    memory.pipe("/b/empty.tar", b"")
    memory.pipe("/b/text.json", b'[{"id": "0"}]')
    memory.pipe("/b/cut.tar", tar_shard(range(2))[:2000])
    memory.pipe("/b/short.tar", tar_shard(range(2))[:1240])
    memory.pipe("/b/cut.parquet", MAKERS["parquet"](range(4))[:-100])
    memory.pipe("/c/notes.txt", b"hello")
    cases = {
        "memory://b/a-{0..3}.tar": "a-1.tar: no such shard, as 3 of 4 shards are missing",
        "memory://b/z-*.tar": "no shard fits this pattern",
        "memory://nowhere/a.tar": "nothing is there; check the address",
        "memory://c": "the folder holds notes.txt; expected shards that end in .tar or .parquet",
        "memory://b/empty.tar": "the shard is empty",
        "memory://b/text.json": "it is json; at an address, tar and Parquet shards are read",
        "memory://b/cut.tar": "not a tar file, or cut off",
        "memory://b/short.tar": "the archive ends at byte 1,024, but more follows: it is cut off",
        "memory://b/cut.parquet": "not a Parquet file, or cut off",
        "abfs://b/a.tar": "needs a package that is not installed: pip install adlfs",
        "nowhere://a.tar": "Protocol not known: nowhere; expected an address such as s3://",
        "slow://secret/a.tar": "(NoCredentialsError: Unable to locate credentials second line)",
    }
    for number, (address, said) in enumerate(cases.items()):
        mixture = write_mixture(tmp_path / f"{number}.yaml", address)
        with pytest.raises(DataError) as found:
            open_mixture(mixture)
        message = str(found.value)
        assert said in message
        assert address.partition("{")[0].partition("*")[0] in message
        assert "\n" not in message


def test_a_shard_that_changes_under_a_reader_is_refused(memory, tmp_path, make_reader):
    for name, content in make_shards("tar", count=2, each=2).items():
        memory.pipe(f"/b/{name}", content)
    reader = make_reader(write_mixture(tmp_path / "m.yaml", "memory://b/*.tar"))
    source = reader.mixture.datasets[0].source
    for file in open_cache().directory.iterdir():
        file.unlink()
    memory.pipe("/b/caps-001.tar", tar_shard(range(2, 4)) + bytes(512))
    assert source.read(1).fields["id"] == "1"
    with pytest.raises(DataError, match=r"caps-001\.tar: it has changed since it was listed"):
        source.read(2)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_that_cannot_be_had_is_no_fault_of_its_records(num_workers, tmp_path, make_reader):
    address = write_store(tmp_path / "store", count=2, each=4)
    reader = make_reader(write_mixture(tmp_path / "m.yaml", address))
    store = tmp_path / "store"

    def lose_shards():
        for file in open_cache().directory.iterdir():
            file.unlink()
        store.rename(tmp_path / "away")

    lose_shards()
    with pytest.raises(ShardError, match=r"caps-000\.tar: nothing is there"):
        make_plan(reader, num_workers=num_workers)
    (tmp_path / "away").rename(store)
    assert not make_plan(reader, num_workers=num_workers).datasets[0].faults
    lose_shards()
    with Workers(reader, num_workers=num_workers) as workers:
        workers.submit([(0, 0), (0, 1)])
        with pytest.raises(ShardError, match=r"caps-000\.tar: nothing is there"):
            workers.result()


def test_a_manifest_names_the_shard_that_has_changed(memory, tmp_path, make_reader):
    for name, content in make_shards("tar", count=3, each=2).items():
        memory.pipe(f"/b/{name}", content)
    path = write_mixture(tmp_path / "m.yaml", "memory://b/*.tar")
    reader = make_reader(path)
    write_manifest(reader.mixture, make_plan(reader, num_workers=0), tmp_path / "pinned")
    memory.pipe("/b/caps-001.tar", tar_shard([2, 9]))
    again = make_reader(path)
    with pytest.raises(DataError, match=r"has changed since \(memory://b/caps-001\.tar first, of"):
        apply_manifest(again.mixture, make_plan(again, num_workers=0), tmp_path / "pinned")
    memory.pipe("/b/caps-001.tar", tar_shard(range(2, 4)))  # the same content at another time
    same = make_reader(path)
    apply_manifest(same.mixture, make_plan(same, num_workers=0), tmp_path / "pinned")


def test_a_broken_picture_in_a_shard_is_a_fault_of_its_row(memory, tmp_path, make_reader):
    content = tar_shard(range(3))
    start = content.index(b"\x89PNG", content.index(b"000001.png"))
    memory.pipe("/b/a.tar", content[:start] + bytes(20) + content[start + 20 :])
    reader = make_reader(write_mixture(tmp_path / "m.yaml", "memory://b/a.tar"))
    plan = make_plan(reader, num_workers=0)
    assert [fault.row for fault in plan.datasets[0].faults] == [1]
    assert plan.datasets[0].usable.tolist() == [True, False, True]


def note_copies(monkeypatch):
    """Return a list that receives the name of each shard that is fetched from now on."""
    fetched = []
    copy = cache_module.copy_shard

    def copy_and_note(shard, target):
        fetched.append(shard.name)
        copy(shard, target)

    monkeypatch.setattr(cache_module, "copy_shard", copy_and_note)
    return fetched


def test_shards_are_fetched_once_before_they_are_read(tmp_path, make_reader, monkeypatch):
    address = write_store(tmp_path / "store", count=6, each=8)
    reader = make_reader(write_mixture(tmp_path / "mixture.yaml", address))
    plan = make_plan(reader, num_workers=0)
    for file in open_cache().directory.iterdir():
        file.unlink()
    fetched = note_copies(monkeypatch)
    order = Order(plan.restrict(reader.mixture), seed=3, epoch=0)
    packs = pack(plan.lengths(order), max_tokens=MAX_TOKENS)
    loader = Loader(
        reader=reader,
        order=order,
        packs=packs,
        quarantine=Quarantine(directory=None, num_samples=len(order)),
        num_workers=1,
    )
    loaded = list(loader.load(range(len(packs))))
    assert sum(len(one.rows) for one in loaded) == 48
    assert Counter(fetched) == {f"caps-{n:03}.tar": 1 for n in range(6)}
    assert all(a.pack < b.pack for a, b in pairwise(loaded))


def test_two_shards_are_fetched_ahead_and_no_more_until_they_are_read(
    memory, tmp_path, monkeypatch
):
    for name in "abcdef":
        memory.pipe(f"/b/{name}.tar", name.encode() * 100)
    a, b, c, d, e, f = find_shards("memory://b/{a,b,c,d,e,f}.tar")
    packs = [[a], [b], [c, d], [d], [e], [f]]
    cache = ShardCache(directory=tmp_path / "cache", max_bytes=400)  # two to read, two ahead
    fetched = note_copies(monkeypatch)
    ahead = ReadAhead(packs.__getitem__, num_packs=len(packs), cache=cache)
    for place, shards in enumerate(packs):
        ahead.look_ahead(place)
        for _, future in list(ahead._ahead.values()):
            future.result(timeout=60)
        later = {shard for pack in packs[place + 1 :] for shard in pack}.difference(shards)
        assert sum(map(cache.has, later)) <= 2
        ahead.reach(place)
        assert all(map(cache.has, shards))
    ahead.close()
    assert sorted(fetched) == [f"{name}.tar" for name in "abcdef"]


def fail_while_a_shard_is_fetched(directory):
    fsspec.register_implementation("slow", SlowStore, clobber=True)
    SlowStore.pause = 3600.0
    shards = find_shards("slow://b/a.tar")
    cache = ShardCache(directory=Path(directory), max_bytes=SlowStore.SIZE)
    with read_ahead(lambda place: shards, num_packs=1, cache=cache) as ahead:
        ahead.look_ahead(0)
        while not list(cache.directory.glob("*.partial")):
            time.sleep(0.01)
        raise SystemExit(5)


def test_a_process_that_fails_does_not_wait_for_a_shard(tmp_path):
    child = mp.get_context("spawn").Process(
        target=fail_while_a_shard_is_fetched, args=(str(tmp_path / "cache"),)
    )
    child.start()
    child.join(timeout=300)
    code = child.exitcode
    child.kill()
    assert code == 5

"""Shards of pictures with questions, as tar or Parquet, for tests of stores."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(number, *, edge=24):
    """Return a picture of noise."""
    pixels = np.random.default_rng(number).integers(0, 256, (edge, edge + 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


def talk(number):
    return [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": f"thing {number}" + " more" * (number % 7)},
    ]


def tar_shard(numbers):
    """Return a shard of samples that these numbers make."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in numbers:
            record = json.dumps({"id": str(number), "conversations": talk(number)}).encode()
            for suffix, content in (("json", record), ("png", png(number))):
                member = tarfile.TarInfo(f"{number:06}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def parquet_shard(numbers, *, group_rows=4):
    """Return a shard of the same samples in row groups."""
    rows = [
        {"id": str(n), "image": {"bytes": png(n), "path": f"{n}.png"}, "conversations": talk(n)}
        for n in numbers
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=group_rows)
    return file.getvalue()


MAKERS = {"tar": tar_shard, "parquet": parquet_shard}


def make_shards(kind, *, count, each):
    """Return the content of each shard by its name: caps-000.tar, caps-001.tar, ..."""
    return {
        f"caps-{number:03}.{kind}": MAKERS[kind](range(number * each, (number + 1) * each))
        for number in range(count)
    }


def write_store(folder, kind="tar", *, count=6, each=8):
    """Write shards into a folder that stands for a store; returns the address of all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in make_shards(kind, count=count, each=each).items():
        (folder / name).write_bytes(content)
    return f"file://{folder}/caps-{{000..{count - 1:03}}}.{kind}"


def write_mixture(path, address, *, more=""):
    """Write a mixture of one data set at an address; returns its path."""
    path.write_text(f'datasets:\n  - name: caps\n    json_path: "{address}"\n{more}')
    return path


def gib(num_bytes):
    """Return a number of bytes as ONEVISION_SHARDS_GIB takes it."""
    return f"{num_bytes / 2**30:.12f}"

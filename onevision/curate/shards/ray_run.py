"""Shards and a Ray cluster -> all shards described, whichever workers die meanwhile.

    data/shards/NAME/      a job each: attempts, records, provenance, summary    job.py
    data/parts/NAME.parquet   what it kept, with the pictures and their provenance
    data/mixture.yaml      names the parts
    data/summary.json      counts of all shards

Ray Data starts a dead worker's shard again on another one, where the shard's journal says what was
answered.
"""

import logging
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from onevision.curate.claim import SUMMARY
from onevision.curate.output import MIXTURE
from onevision.curate.shards.split import LOCAL, Cluster, Shard
from onevision.curate.shards.worker import PARTS, ShardSettings, ShardWorker
from onevision.curate.writer import Writer
from onevision.errors import DataError, EngineError
from onevision.extras import imports_of_extra
from onevision.files import Line, write_json, write_text

PLACE = re.compile(r"(ray://)?(?P<host>[\w.-]+):(?P<port>\d{1,5})$")
CONNECT_SECONDS = 5.0


def run_on_ray(
    shards: Sequence[Shard],
    open_writer: Callable[[], Writer],
    settings: ShardSettings,
    *,
    cluster: Cluster,
    on_shard: Callable[[Line], object] = str,
) -> Line:
    """Describes all shards; returns their summary.

    Raises EngineError if the cluster cannot be reached or a worker fails, InputError without the
    extra `ray`, OSError.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of actors that restart
    with imports_of_extra("ray", "--ray needs Ray: pip install 'onevision[ray]'"):
        import ray.data
    _connect(cluster)
    try:
        rows = [{"shard": shard.to_json()} for shard in shards]
        worker: Any = ShardWorker  # Any: Ray types functions, not classes
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            worker,
            fn_constructor_args=(open_writer, settings),
            compute=ray.data.ActorPoolStrategy(size=min(cluster.num_workers, len(rows))),
            num_cpus=1,
            num_gpus=cluster.gpus_each,
        )
        made: list[Line] = []
        for line in data.iter_rows():
            made.append(line)
            on_shard(line)
    except ray.exceptions.RayError as error:
        raise EngineError(f"a worker failed: {_last_line(error)}") from error
    finally:
        ray.shutdown()
    return _write(made, settings.output, num_shards=len(shards))


def _connect(cluster: Cluster) -> None:
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    is_local = cluster.address == LOCAL
    if place := PLACE.match(cluster.address):
        _knock(cluster.address, place["host"], int(place["port"]))
    try:
        ray.init(
            address=None if is_local else cluster.address,
            num_cpus=cluster.num_workers if is_local else None,
            include_dashboard=False if is_local else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_answer(cluster.address, error) from error
    ray.data.DataContext.get_current().enable_progress_bars = False


def _knock(address: str, host: str, port: int) -> None:
    """Raises EngineError where nothing listens; Ray itself would wait for minutes."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> EngineError:
    return EngineError(
        f"--ray is {address!r}, where no cluster answers ({_last_line(error)}); start one with "
        "`ray start --head`, or give --ray local"
    )


def _write(made: Sequence[Line], output: Path, *, num_shards: int) -> Line:
    counts = ("num_kept", "num_refused", "num_left", "prompt_tokens", "completion_tokens")
    summary: Line = {"job": "recaption", "num_shards": num_shards}
    summary |= {name: sum(int(str(line[name])) for line in made) for name in counts}
    summary["stopped"] = sorted({str(line["stopped"]) for line in made} - {""})
    parts = sorted((output / PARTS).glob("*.parquet")) if (output / PARTS).is_dir() else []
    if not parts and not summary["stopped"]:
        raise DataError(f"{output}: no shard has a picture that can be described")
    entry = {"name": "recaption", "json_path": f"{PARTS}/*.parquet"}
    write_text(output / MIXTURE, yaml.safe_dump({"datasets": [entry]}, sort_keys=False))
    write_json(output / SUMMARY, summary)
    return summary


def _last_line(error: Exception) -> str:
    """Returns the last line of an error's text, which is the worker's own message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__

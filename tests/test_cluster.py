"""The files of runs/cluster: they parse, agree with the package, and plan what they would train.

No cluster runs them here; a slow test lets two nodes meet on this machine, and kills one.
"""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from onevision.train.cost.devices import DEVICES
from onevision.train.stages import stage_named

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "runs" / "cluster"


def load_costs():
    spec = importlib.util.spec_from_file_location("costs", CLUSTER / "costs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


costs = load_costs()
STAGES, H100 = list(costs.STAGES), DEVICES["h100"]


def run(*command, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["node.sh", "slurm.sh"])
def test_scripts_parse(script):
    assert run("bash", "-n", CLUSTER / script) == (0, "")


def test_node_plans_its_stage_alone_with_the_options_it_is_given(tmp_path):
    code, told = run(
        CLUSTER / "node.sh", "7b", "align", tmp_path, "--devices", "64",
        PLAN="1", SNAPSHOTS="s3://bucket/runs/a", TENSORBOARD="1",
    )  # fmt: skip
    assert code == 0, told
    assert told.count("optimiser steps") == 1
    assert "64 x h100, 64 to a copy" in told
    (plan,) = (
        p
        for s, p in costs.make_plans(H100, [64], sizes=["7b"])
        if (s, p.stage.name) == ("7b", "align")
    )
    assert costs.format_hours(plan.hours) in told
    assert costs.row("7b", plan)[3] == costs.format_hours(plan.hours)


def test_every_size_of_the_scripts_has_its_stages():
    for size in costs.SIZES:
        assert (ROOT / "runs" / f"onevision_{size}.sh").is_file()
        assert [stage_named(name, size).name for name in STAGES] == STAGES


def words_of(text):
    """The words of the loop over stages, in a script or in a comment."""
    return re.search(r"^(?:#  *)?for stage in (.*?); do", text, re.MULTILINE)[1].split()


def test_every_launcher_runs_the_four_stages_in_order():
    for name in ("slurm.sh", "skypilot.yaml", "kubernetes.yaml"):
        text = (CLUSTER / name).read_text(encoding="utf-8")
        assert words_of(text) == STAGES, name
        assert "runs/cluster/node.sh" in text


def test_skypilot_parses_and_names_variables_that_the_scripts_read():
    task = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text(encoding="utf-8"))
    read = (CLUSTER / "node.sh").read_text() + (ROOT / "runs" / "published.sh").read_text()
    assert {"SIZE", "STAGE"} | {n for n in task["envs"] if f"${{{n}" in read} == set(task["envs"])
    assert task["envs"]["STAGE"] in STAGES and task["envs"]["SIZE"] in costs.SIZES
    assert run("bash", "-n", "-c", task["run"]) == (0, "")
    assert run("bash", "-n", "-c", task["setup"]) == (0, "")


def write_slurm(folder, *, fails):
    """Commands of Slurm that record what they are given; srun fails for one stage."""
    log = folder / "log"
    srun = f'echo "$HEAD $NODES $*" >> {log}; [[ "$*" != *{fails}* ]]'
    scontrol = f'if [[ $1 == show ]]; then echo node-0; echo node-1; else echo "$*" >> {log}; fi'
    for name, body in {"srun": srun, "scontrol": scontrol}.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)
    return log


def test_slurm_skips_what_is_finished_and_queues_itself_again(tmp_path):
    log = write_slurm(tmp_path, fails="single_image")
    (tmp_path / "out" / "align").mkdir(parents=True)
    (tmp_path / "out" / "align" / "report.html").write_text("")
    command = (CLUSTER / "slurm.sh", "7b", tmp_path / "out", "--set", "keep=3")
    slurm = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NODELIST": "node-[0-1]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "12",
    }
    assert run(*command, **slurm)[0] == 1
    started = "node-0 2 --kill-on-bad-exit=1 runs/cluster/node.sh 7b {} {} --set keep=3"
    stages = [started.format(stage, tmp_path / "out") for stage in ("knowledge", "single_image")]
    assert log.read_text().splitlines() == [*stages, "requeue 12"]
    log.unlink()
    assert run(*command, **slurm, SLURM_RESTART_COUNT="20")[0] == 1
    assert log.read_text().splitlines() == stages


@pytest.mark.parametrize("stage", STAGES)
def test_kubernetes_parses_for_every_stage(stage):
    text = (CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8")
    text = text.replace("onevision-align", f"onevision-{stage.replace('_', '-')}")
    job = yaml.safe_load(text.replace("value: align", f"value: {stage}"))
    assert re.fullmatch(r"[a-z0-9-]+", job["metadata"]["name"])
    policy = job["spec"]["elasticPolicy"]
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert policy["minReplicas"] <= worker["replicas"] <= policy["maxReplicas"]
    (container,) = worker["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert told["STAGE"] == stage and all(isinstance(value, str) for value in told.values())
    assert int(told["DEVICES"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert (ROOT / container["command"][0].removeprefix("/opt/onevision/")).is_file()


def test_health_names_what_fails(tmp_path):
    health = (sys.executable, CLUSTER / "health.py")
    code, told = run(*health, tmp_path / "a", "--gpus", "0", "--head", "localhost")
    assert code == 0 and "can be written to" in told
    (tmp_path / "file").write_text("")
    code, told = run(
        *health, tmp_path / "file" / "b", "--gpus", "999", "--head", "no.such.invalid",
        "--weights", "", "/no/such",
    )  # fmt: skip
    assert code == 1 and "Traceback" not in told
    for problem in ("999 are expected", "directory:", "head:", "/no/such is no directory"):
        assert problem in told


def test_costs_name_a_bottleneck():
    plans = {(s, p.stage.name, p.num_devices): p for s, p in costs.make_plans(H100, [8, 256])}
    assert len(plans) == 24
    assert costs.row("72b", plans["72b", "onevision", 8])[3] == "does not fit"
    assert "idle" in costs.name_bottleneck(plans["7b", "onevision", 256])
    for plan in plans.values():
        assert 0 < costs.model_utilisation(plan) < costs.UTILISATION
    doc = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for (size, _, _), plan in plans.items():
        assert f"| {' | '.join(costs.row(size, plan))} |" in doc
    assert f"${H100.price_per_hour:.2f} per device and hour" in doc


def node_environment(port, *, hosts):
    """What node.sh exports for a node of two; one of them hosts the rendezvous."""
    return os.environ | {
        "PYTHON": sys.executable,
        "TORCHRUN": f"{sys.executable} -m torch.distributed.run",
        "LANGUAGE_MODEL": "onevision/assets/tiny",
        "VISION_ENCODER": "onevision/assets/tiny",
        "STAGES": "align",
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"localhost:{port}",
        "PET_RDZV_CONF": f"join_timeout=120,read_timeout=60,is_host={int(hosts)}",
        "PET_MAX_RESTARTS": "3",
        "PET_MONITOR_INTERVAL": "0.2",
        "PET_LOCAL_ADDR": "127.0.0.1" if hosts else "127.0.0.2",  # the head is rank 0
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": "1",
    }


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def processes_of(group):
    """A launcher and, in sessions of their own, the processes that it has started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    parents = {int(p): int(of) for p, of in map(str.split, listed.splitlines())}
    found = [group]
    for one in found:
        found += [pid for pid, of in parents.items() if of == one]
    return found


@pytest.mark.slow
def test_a_node_dies_and_another_takes_its_place(tmp_path):
    """Two nodes of one process on this machine; 25 s of one core."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = "--set num_samples=160 --set global_batch=8 --set save_steps=2 --set device=cpu"
    tokenizer = "--tokenizer onevision/assets/tiny/tokenizer.json"
    command = f"runs/published.sh tiny {tmp_path} {tokenizer} {options}".split()

    def start(name, *, hosts=False):
        with (tmp_path / name).open("w") as log:
            return subprocess.Popen(
                command, env=node_environment(port, hosts=hosts), cwd=ROOT, stdout=log, stderr=log
            )

    nodes = [start("head", hosts=True), start("lost")]
    try:
        wait_for(lambda: list((tmp_path / "align").glob("step-*[0-9]")))
        for pid in processes_of(nodes[1].pid):
            os.kill(pid, signal.SIGKILL)
        nodes.append(start("new"))
        assert nodes[0].wait(240) == nodes[2].wait(240) == 0, (tmp_path / "head").read_text()
    finally:
        for node in nodes:
            if node.poll() is None:
                for pid in processes_of(node.pid):
                    os.kill(pid, signal.SIGKILL)
    assert (tmp_path / "align" / "checkpoint" / "model.safetensors").is_file()
    told = (tmp_path / "head").read_text()
    assert "it resumes from step" in told
    lines = (tmp_path / "align" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 21))

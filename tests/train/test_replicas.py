"""Two processes that share a step compute what one computes alone."""

import os

import pytest
import torch
import torch.multiprocessing as mp

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.save import save
from onevision.data.packing import collate
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import TINY
from onevision.model.llava import LlavaNetwork
from onevision.train.feed import row_of
from onevision.train.replicas import join_replicas
from onevision.train.stages import STAGES
from onevision.train.trainer import Trainer

NUM_ROWS = 5


def gradients(stage, tokenizer, rows, start):
    trainer = Trainer(stage, TINY, tokenizer=tokenizer, starts=[start], output=start)
    rows = [row_of(stage, trainer.processor, seed=0, index=i) for i in rows]
    loss, samples, _ = trainer.backward(collate(rows, TINY.inputs), count=len(rows))
    return loss, samples, torch.cat([p.grad.flatten() for p in trainer.parameters])


def one_of_two(rank, port, directory, results):

    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": "2",
    }
    replicas = join_replicas()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    rows = range(replicas.rank, NUM_ROWS, replicas.count)
    torch.save(gradients(STAGES["onevision"], tokenizer, rows, directory), results / f"{rank}.pt")


@pytest.mark.distributed
def test_two_processes_give_the_gradient_of_one(tmp_path, tokenizer, free_port):
    start = tmp_path / "start"

    save(LlavaNetwork(TINY), TINY, tokenizer, start)
    mp.spawn(one_of_two, args=(free_port, start, tmp_path), nprocs=2)
    alone = gradients(STAGES["onevision"], tokenizer, range(NUM_ROWS), start)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first[1] == second[1] == alone[1] == NUM_ROWS
    assert first[0] == second[0] == pytest.approx(alone[0], rel=1e-3)
    assert torch.equal(first[2], second[2])
    assert (first[2] - alone[2]).norm() < 0.03 * alone[2].norm()  # bf16 rounds differently

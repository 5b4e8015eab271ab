"""Prompts and the model before training -> the prompts worth learning from: Pass@N over Pass@1.

    selection.jsonl
        {"id": "7", "pass_at_1": 0.31, "pass_at_n": 1.0, "kept": true}

A prompt that is always right or always wrong has answers of one reward, which teach nothing. Kept
are those whose best of N answers beats their mean by `select_gain`, and whose mean is in
`select_range`: what the model can do, and does not do reliably.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from onevision.errors import CheckpointError, DataError
from onevision.files import Line, write_lines
from onevision.train.objectives.objective import RunContext
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.reinforce.data import RewardedPrompt
from onevision.train.reinforce.rollouts import Group, Sampler

SELECTION = "selection.jsonl"


def obtain_selection(
    run: RunContext, prompts: Sequence[RewardedPrompt], sampler: Sampler
) -> list[RewardedPrompt]:
    """Returns the prompts that are kept, as selection.jsonl says, or as they are answered now.

    Every process calls it; the first one answers. Raises DataError if none is kept,
    CheckpointError for a file that does not fit the prompts.
    """
    path, config = run.output / SELECTION, sampler.config
    if run.processes.rank == 0 and not path.is_file():
        if run.snapshot is not None:  # the weights that it is of are gone
            raise CheckpointError(f"{path}: it is missing; restore it, or start over elsewhere")
        asked = list(enumerate(prompts))
        groups = sampler.sample(asked, name="selection", num_answers=config.select_answers)
        write_lines(path, [measure(group, config) for group in groups])
    run.processes.all_succeeded()
    kept = _read(path, prompts)
    if not kept:
        raise DataError(
            f"{path}: none of {len(prompts)} prompts is kept; widen select_range or lower "
            "select_gain, or give prompts that the model answers right now and then"
        )
    run.warn(f"{len(kept)} of {len(prompts)} prompts are kept: {path}")
    return kept


def measure(group: Group, config: ReinforceConfig) -> Line:
    """Returns the line of a prompt: the mean and the best reward of its answers."""
    known = [reward for reward in group.rewards if reward is not None]
    mean, best = (fmean(known), max(known)) if known else (0.0, 0.0)
    low, high = config.select_range
    kept = bool(known) and best - mean >= config.select_gain and low <= mean <= high
    return {"id": group.id, "pass_at_1": mean, "pass_at_n": best, "kept": kept}


def _read(path: Path, prompts: Sequence[RewardedPrompt]) -> list[RewardedPrompt]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        kept = {line["id"]: bool(line["kept"]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); remove it") from error
    if kept.keys() != {prompt.id for prompt in prompts}:
        raise CheckpointError(f"{path}: it is of other prompts; give another --output")
    return [prompt for prompt in prompts if kept[prompt.id]]

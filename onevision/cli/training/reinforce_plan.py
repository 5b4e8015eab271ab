"""`onevision reinforce --plan`: what a run learns and samples, without taking a step."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.config import TrainConfig


def print_reinforce_plan(
    config: "TrainConfig",
    tokenizer: "Tokenizer",
    *,
    root: Path | None,
    devices: int,
    kind: str,
    price: float | None,
) -> None:
    """Prints the plan of a run of GRPO on a number of devices; reads prompts, and no weights."""
    from onevision.cli.training.plan import print_table
    from onevision.inputs.processor import Processor
    from onevision.train.cost.devices import get_device_kind
    from onevision.train.cost.memory import count_shards
    from onevision.train.cost.plan import plan_training
    from onevision.train.cost.tables import tables
    from onevision.train.reinforce.data import read_rewarded
    from onevision.train.reinforce.plan import count_prompts, plan_rollouts, rollout_table
    from onevision.train.stage import stage_config
    from onevision.train.tensor.rules import check_division

    stage, options, rewards = config.stage, config.options, config.reinforce
    check_division(config, num_devices=devices)
    assert rewards is not None and stage.mixture is not None, "the command made both"
    path, model = Path(stage.mixture), stage_config(stage, config.target)
    prompts = read_rewarded(path, root=root, num_frames=stage.num_frames)
    amount = count_prompts(prompts, Processor(model.inputs, tokenizer), rewards, name=path.name)
    plan = plan_training(
        stage,
        config.target,
        [amount],
        kind=get_device_kind(kind, price_per_hour=price),
        num_devices=devices,
        shards=count_shards(options, num_devices=devices),
        precision=options.precision,
        context=options.context,
        recompute=options.recompute,
        lora=options.lora,
        offload=options.offload,
    )
    rollouts = rollout_table(plan_rollouts(amount, stage, model, rewards), rewards)
    for table in (*tables(plan), rollouts):
        print_table(table)

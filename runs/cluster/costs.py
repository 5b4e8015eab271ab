"""Prints what the published stages cost on some numbers of devices, as `train --plan` says.

    python runs/cluster/costs.py [--sizes 0.5b 7b 72b] [--devices 8 64 256] [--device-kind h100]
                                 [--price 2.80] [--set max_tokens=8192]

Each row is one plan, of `PLAN=1 STAGES=STAGE runs/onevision_SIZE.sh OUT --devices N`; settings are
read from that script.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from onevision.data.mixture import published_mixtures
from onevision.errors import OneVisionError
from onevision.known_models import ARCHITECTURES
from onevision.train.config import TrainConfig, make_run_options
from onevision.train.context.rules import check_context
from onevision.train.cost.amounts import Amount, simulate_mixture
from onevision.train.cost.devices import GIB, DeviceKind, get_device_kind
from onevision.train.cost.memory import count_shards
from onevision.train.cost.plan import UTILISATION, TrainingPlan, plan_training
from onevision.train.cost.tables import format_hours
from onevision.train.options import RunOptions
from onevision.train.stage import Stage, stage_config
from onevision.train.stages import stage_named
from onevision.values import apply_settings, split_settings

RUNS = Path(__file__).parents[1]
SIZES = ("0.5b", "7b", "72b")
STAGES = ("align", "knowledge", "single_image", "onevision")
HEADER = ("model", "stage", "devices", "time", "dollars", "MFU", "GiB", "bottleneck")
# A share of the devices' time without a sequence above which that is the bottleneck.
IDLE = 0.15


def read_settings(size: str, settings: Sequence[str]) -> tuple[Sequence[str], RunOptions]:
    """Returns what `settings` change of a stage, and the options of a size's script with them."""
    script = (RUNS / f"onevision_{size}.sh").read_text(encoding="utf-8")
    told = [*re.findall(r"--set (\S+)", script), *settings]
    for_stage, for_run = split_settings(told, Stage, RunOptions)
    return for_stage, make_run_options(for_run)


def make_plans(
    kind: DeviceKind,
    devices: Sequence[int],
    *,
    sizes: Sequence[str] = SIZES,
    settings: Sequence[str] = (),
) -> Iterator[tuple[str, TrainingPlan]]:
    """Plans every stage of some sizes on each number of devices."""
    for size in sizes:
        target = ARCHITECTURES[size]
        for_stage, options = read_settings(size, settings)
        for name in STAGES:
            stage = apply_settings(stage_named(name, size), for_stage)
            amounts: tuple[Amount, ...] = simulate_mixture(
                published_mixtures() / f"{name}.yaml", stage, stage_config(stage, target).inputs
            )
            for number in devices:
                config = TrainConfig(stage=stage, target=target, options=options)
                check_context(config, num_devices=number)
                yield (
                    size,
                    plan_training(
                        stage,
                        target,
                        amounts,
                        kind=kind,
                        num_devices=number,
                        shards=count_shards(options, num_devices=number),
                        recompute=options.recompute,
                        precision=options.precision,
                        context=options.context,
                    ),
                )


def model_utilisation(plan: TrainingPlan) -> float:
    """Returns the MFU: operations without those of recomputation, of what all devices could do."""
    wanted = plan.total_operations - sum(part.recomputed for part in plan.operations)
    return wanted / plan.total_operations * UTILISATION * plan.busy


def peak_gib(plan: TrainingPlan) -> float:
    """Returns the most memory of a device, from start to end."""
    return max(plan.memory.total, plan.ends.start, plan.ends.end) / GIB


def name_bottleneck(plan: TrainingPlan) -> str:
    """Returns what to change first: memory, too few sequences per step, or the largest part."""
    if not plan.fits:
        held = vars(plan.memory)
        return f"memory, most for {max(held, key=held.__getitem__)}"
    if plan.busy < 1 - IDLE:
        return f"{plan.sequences_per_step} sequences per step: {1 - plan.busy:.0%} idle"
    largest = max(plan.operations, key=lambda part: part.total)
    share = largest.total / plan.total_operations
    return f"{largest.part.replace('_', ' ')}, {share:.0%} of operations"


def row(size: str, plan: TrainingPlan) -> tuple[str, ...]:
    """Returns the cells of a plan; time and money only if it fits."""
    cost = (format_hours(plan.hours), f"{plan.dollars:,.0f}", f"{model_utilisation(plan):.0%}")
    return (
        size.upper(),
        plan.stage.name,
        str(plan.num_devices),
        *(cost if plan.fits else ("does not fit", "", "")),
        f"{peak_gib(plan):.1f}",
        name_bottleneck(plan),
    )


def main() -> None:
    """Reads the options and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--devices", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--device-kind", default="h100")
    parser.add_argument("--price", type=float)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    try:
        print_table(given)
    except OneVisionError as error:
        parser.error(str(error))


def print_table(given: argparse.Namespace) -> None:
    """Prints the table of the plans that are asked for. Raises ConfigError."""
    kind = get_device_kind(given.device_kind, price_per_hour=given.price)
    print(f"| {' | '.join(HEADER)} |")
    print(f"|{'---|' * 2}{'---:|' * 5}---|")
    for size, plan in make_plans(kind, given.devices, sizes=given.sizes, settings=given.set):
        print(f"| {' | '.join(row(size, plan))} |", flush=True)
    print(
        f"\nAssumed: {kind.name}, {UTILISATION:.0%} of {kind.peak_flops / 1e12:.4g} TFLOP/s for "
        f"executed operations, ${kind.price_per_hour:.2f} per device and hour."
    )


if __name__ == "__main__":
    main()

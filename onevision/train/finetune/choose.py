"""A request, the lengths of its samples and a device -> the stage and options that fit, and why.

Tried in this order, until the plan fits the memory: the methods that the request allows; without
and with recomputation; the longest packs first. What `--set` names is never changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from onevision.commas import join_items
from onevision.config import ModelConfig
from onevision.errors import ConfigError
from onevision.extras import has_package
from onevision.plural import counted
from onevision.train.config import TrainConfig, make_run_options
from onevision.train.context.rules import check_context
from onevision.train.cost.amounts import Amount, without_held_out
from onevision.train.cost.devices import GIB, DeviceKind
from onevision.train.cost.memory import count_parameters, count_shards, count_trainable
from onevision.train.cost.plan import TrainingPlan, plan_training
from onevision.train.finetune.request import BITS, FinetuneRequest, Method
from onevision.train.lora.bases import Base
from onevision.train.lora.targets import apply_targets
from onevision.train.options import RunOptions
from onevision.train.parallel import Sharing
from onevision.train.stage import Stage
from onevision.train.stages import FINETUNE
from onevision.values import apply_settings, split_settings

# A language model with fewer parameters trains whole, if it fits: adapters would save little.
WHOLE_BELOW = 100e6
LORA_RANK = 16
# Peak rates. Adapters: those of LLaVA's scripts (2e-4, its projector 2e-5); whole models: the
# published 1e-5. Models narrower than the published ones take more (tiny learned at 1e-3).
LORA_RATES = ("learning_rate=2e-4", "projector_learning_rate=2e-5")
WHOLE_RATES = ("learning_rate=1e-5",)
SMALL_RATES = ("learning_rate=5e-4",)
# Samples per step: about so many steps in all, within these bounds.
NUM_STEPS = 100
MIN_BATCH, MAX_BATCH = 4, 64
PACK_TOKENS = (32768, 16384, 8192, 4096, 2048, 1024, 512, 256)
# Samples of a small set need no processes of their own to be decoded.
FEW_SAMPLES = 64
MAX_BAD_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a request trains, what it costs, and why it was chosen."""

    method: Method
    stage: Stage
    options: RunOptions
    plan: TrainingPlan
    # Trainable parameters, and all.
    num_trainable: int
    num_parameters: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to learn, and where."""

    target: ModelConfig
    amounts: Sequence[Amount]
    # Tokens of every usable sample.
    lengths: NDArray[np.int64]
    kind: DeviceKind
    device: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is tried."""

    method: Method
    base: Base
    sharing: Sharing
    recompute: bool
    max_tokens: int


def choose(request: FinetuneRequest, work: Work) -> Choice:
    """Chooses what fits. Raises ConfigError if nothing does, or for settings that are unknown."""
    longest = int(work.lengths.max())
    smallest: TrainingPlan | None = None
    seen: list[tuple[Stage, RunOptions]] = []
    for candidate in _candidates(request, work):
        stage, options = _configure(request, work, candidate)
        if (stage, options) in seen:  # --set decides what was to be tried
            continue
        seen.append((stage, options))
        config = TrainConfig(stage=stage, target=work.target, options=options)
        check_context(config, num_devices=request.devices)
        plan = plan_training(
            stage,
            work.target,
            without_held_out(work.amounts, options.held_out),
            kind=work.kind,
            num_devices=request.devices,
            shards=count_shards(options, num_devices=request.devices),
            recompute=options.recompute,
            lora=options.lora,
            offload=options.offload,
            precision=options.precision,
            context=options.context,
        )
        if plan.fits:
            return _explain(request, work, candidate.method, options, plan)
        if smallest is None or plan.memory.total < smallest.memory.total:
            smallest = plan
    assert smallest is not None, "there is a candidate"
    raise ConfigError(
        f"the least that was tried needs {smallest.memory.total / GIB:.1f} GiB "
        f"(max_tokens {smallest.stage.max_tokens:,}; the longest sample has {longest:,} tokens), "
        f"{work.kind.name} has {work.kind.memory_bytes / GIB:.1f}; take a smaller model, more "
        "--devices, --method qlora, or --memory GIB if the device has more"
    )


def start_stage(request: FinetuneRequest) -> tuple[Stage, RunOptions]:
    """Returns stage and options as far as the request alone decides them. Raises ConfigError.

    Its packs hold as much as the longest sample may have, so that nothing is cut yet.
    """
    for_stage, for_run = split_settings(request.settings, Stage, RunOptions)
    for_run = [one for one in for_run if not _is_of_adapters(one)]  # of some methods alone
    stage = apply_settings(FINETUNE.learning_from(request.data), for_stage)
    return stage, make_run_options(_options(request, for_run))


def _candidates(request: FinetuneRequest, work: Work) -> Iterator[Candidate]:
    """Yields what to try, the best first."""
    longest = int(work.lengths.max())
    useful = max(longest, _batch(request, work) * float(work.lengths.mean()))
    whole = [p for p in PACK_TOKENS if longest <= p <= 2 * useful] or [-(-longest // 64) * 64]
    shorter = [p for p in PACK_TOKENS if p < longest]
    shares: tuple[Sharing, ...] = ("replicate", "shard") if request.devices > 1 else ("replicate",)
    for lengths in (whole, shorter):
        tried = product(_ways(request, work), shares, (False, True), lengths)
        for (method, base), sharing, recompute, max_tokens in tried:
            yield Candidate(
                method=method,
                base=base,
                sharing=sharing,
                recompute=recompute,
                max_tokens=max_tokens,
            )


def _ways(request: FinetuneRequest, work: Work) -> Iterator[tuple[Method, Base]]:
    """Yields the methods that are allowed, each with how it stores what is below adapters."""
    four: Base = "nf4" if work.device.startswith("cuda") and has_package("nf4") else "int4"
    bases: dict[int, Base] = {8: "int8", 4: four}
    for method in _methods(request, work.target):
        if method == "qlora":
            yield from (("qlora", bases[n]) for n in BITS if request.bits in (None, n))
        else:
            yield method, "full"


def _methods(request: FinetuneRequest, target: ModelConfig) -> tuple[Method, ...]:
    if request.method != "auto":
        return (request.method,)
    if request.lora_rank is not None or any(map(_is_of_adapters, request.settings)):
        return ("lora", "qlora")
    is_small = _num_language(target) < WHOLE_BELOW
    return ("full", "lora", "qlora") if is_small else ("lora", "qlora")


def _is_of_adapters(setting: str) -> bool:
    return setting.strip().startswith("lora_")


def _batch(request: FinetuneRequest, work: Work) -> int:
    """Returns samples per step: a power of two that leaves about NUM_STEPS steps."""
    wanted = len(work.lengths) * (request.epochs or FINETUNE.epochs) / NUM_STEPS
    batch = MIN_BATCH
    while 2 * batch <= min(wanted, MAX_BATCH):
        batch *= 2
    return min(batch, len(work.lengths))


def _configure(request: FinetuneRequest, work: Work, one: Candidate) -> tuple[Stage, RunOptions]:
    for_stage, for_run = split_settings(request.settings, Stage, RunOptions)
    rates = LORA_RATES if one.method != "full" else WHOLE_RATES
    if one.method == "full" and _num_language(work.target) < WHOLE_BELOW:
        rates = SMALL_RATES
    stage = replace(
        FINETUNE.learning_from(request.data),
        epochs=request.epochs or FINETUNE.epochs,
        global_batch=_batch(request, work),
        max_tokens=one.max_tokens,
    )
    chosen = [
        f"device={work.device}",
        f"sharing={one.sharing}",
        f"recompute={str(one.recompute).lower()}",
        f"num_workers={0 if len(work.lengths) < FEW_SAMPLES else 2}",
    ]
    if one.method != "full":
        rank = request.lora_rank or LORA_RANK
        chosen += [f"lora_rank={rank}", f"lora_alpha={2 * rank}", f"lora_base={one.base}"]
    options = make_run_options(_options(request, _merge(chosen, for_run)))
    return apply_targets(
        apply_settings(stage, _merge(rates, for_stage)), options.lora_targets
    ), options


def _options(request: FinetuneRequest, settings: Sequence[str]) -> list[str]:
    """Returns the settings of a run, below those that the request names."""
    own = [f"seed={request.seed}", f"max_bad_share={MAX_BAD_SHARE}"]
    own.append(f"verify={str(request.verify).lower()}")
    if request.holds_out:
        own += [f"held_out={request.held_out}", f"early_stop={request.patience}"]
    if request.roots:
        own.append(f"media_roots={join_items(request.roots)}")
    return _merge(own, settings)


def _merge(own: Sequence[str], told: Sequence[str]) -> list[str]:
    """Returns "key=value" texts in which those that were told replace our own."""
    keys = {one.partition("=")[0].strip() for one in told}
    return [*(one for one in own if one.partition("=")[0] not in keys), *told]


def _num_language(config: ModelConfig) -> int:
    return count_parameters(config).of(("language_model",))


def _explain(
    request: FinetuneRequest,
    work: Work,
    method: Method,
    options: RunOptions,
    plan: TrainingPlan,
) -> Choice:
    stage, config = plan.stage, work.target
    reasons = [_why_method(request, method, options, language=_num_language(config))]
    longest, cut = int(work.lengths.max()), int((work.lengths > stage.max_tokens).sum())
    if cut:
        reasons.append(
            f"packs of {stage.max_tokens:,} tokens, the most that fits: {cut:,} of "
            f"{len(work.lengths):,} samples are longer (up to {longest:,}) and are cut"
        )
    else:
        reasons.append(f"packs of {stage.max_tokens:,} tokens: the longest sample has {longest:,}")
    if options.recompute:
        reasons.append("recompute=true: with all activations kept it does not fit")
    if options.sharing == "shard":
        reasons.append(f"sharing=shard: a whole copy does not fit one of {plan.num_devices}")
    reasons.append(
        f"{counted(stage.global_batch, 'sample')} per step: {counted(plan.num_steps, 'step')} in "
        f"{counted(stage.epochs, 'epoch')}"
    )
    return Choice(
        method=method,
        stage=stage,
        options=options,
        plan=plan,
        num_trainable=count_trainable(stage, config, options.lora),
        num_parameters=count_parameters(config).total,
        reasons=tuple(reasons),
    )


def _why_method(
    request: FinetuneRequest, method: Method, options: RunOptions, *, language: int
) -> str:
    parts = () if options.lora is None else options.lora.parts
    where = " and ".join(f"the {part.replace('_', ' ')}" for part in parts)
    if options.lora_base != "full":
        where += f" over {options.lora_base} weights"
    words = "all weights of projector and language model train"
    if method != "full":
        words = f"adapters of rank {options.lora_rank} on {where}, and the projector"
    is_second = method == "qlora" and request.bits is None and options.lora_base in ("int4", "nf4")
    if request.method != "auto":
        wider = "; over int8 weights they do not fit" if is_second else ""
        return f"{method}: {words}, as asked{wider}"
    size = f"the language model has {language / 1e6:,.0f} M weights"
    why = {
        "full": f"{size}, so adapters would save little",
        "lora": f"{size}" if language >= WHOLE_BELOW else "all weights do not fit",
        "qlora": f"adapters over full {'or int8 ' if is_second else ''}weights do not fit",
    }[method]
    return f"{method}: {words} ({why})"

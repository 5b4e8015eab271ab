"""A finished run -> its checkpoint with a model card, its adapter, its curves.

    runs/a/
        checkpoint/       the network, adapters merged; README.md is its card
        adapter/          the adapters alone, in PEFT's format, if some were trained
        report.html       and curves.png: how it went

The checkpoint is written first; a failure after it is only a warning.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from onevision.checkpoint.save import save
from onevision.config import ModelConfig
from onevision.errors import OneVisionError
from onevision.files import write_text
from onevision.generate.answer import DTYPES
from onevision.inputs.templates import end_ids
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig, decisive_options
from onevision.train.directory import RunDirectory
from onevision.train.feed import Feed
from onevision.train.lora.adapt import merge_onto, write_adapter
from onevision.train.mixture_feed import MixtureFeed
from onevision.train.origin import ORIGIN, describe_origin
from onevision.train.report.card import HeldoutScore, ModelFacts, Source, Spent, Start, model_card
from onevision.train.report.curves import write_curves
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.report.notes import EVALUATIONS, read_notes
from onevision.train.stage import PARTS
from onevision.train.start import Starts, stored_type

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What is known of a run that has taken its last step."""

    config: TrainConfig
    model_config: ModelConfig
    tokenizer: Tokenizer
    starts: Starts
    directory: RunDirectory
    sources: Sequence[Source] = ()
    device: str | None = None
    warn: Callable[[str], object] = str


def write_result(network: LlavaNetwork, run: FinishedRun) -> Path:
    """Writes everything and returns the checkpoint. Merges the network's adapters in place.

    Raises CheckpointError if the checkpoint or the adapter cannot be written.
    """
    lora, checkpoint = run.config.options.lora, run.directory.checkpoint
    if lora is not None:
        write_adapter(
            network,
            lora,
            run.config.stage,
            run.directory.adapter,
            base=run.starts.previous[0],
            config=run.model_config,
            warn=run.warn,
        )
        merge_onto(network, run.starts.previous[0], warn=run.warn)
    ends = end_ids(run.config.target.inputs.template, run.tokenizer)
    end = json.dumps({"eos_token_id": list(ends)})
    companions = {
        "generation_config.json": end,
        ORIGIN: describe_origin(run.config.stage.name),
    }
    save(
        network,
        run.model_config,
        run.tokenizer,
        checkpoint,
        dtype=result_type(run),
        companions=companions,
    )
    _attempt(lambda: _write_card(network, run), run, what="the model card")
    _attempt(lambda: write_curves(run.directory.path, warn=run.warn), run, what="the curves")
    return checkpoint


def result_type(run: FinishedRun) -> torch.dtype | None:
    """Returns the type of the written weights; None keeps theirs, which is fp32."""
    named = run.config.options.result_dtype
    return stored_type(run.starts) if named == "auto" else DTYPES[named]


def list_sources(feed: Feed) -> list[Source]:
    """Returns the sources of a feed, with rows and licences if known."""
    if not isinstance(feed, MixtureFeed):
        return [Source(name=name) for name in feed.sources]
    return [
        Source(
            name=one.entry.name,
            num_rows=len(one.rows),
            licence=one.entry.licence,
            hub_id=_hub_id(one.entry.source),
        )
        for one in feed.mixture.datasets
    ]


def collect_facts(network: LlavaNetwork, run: FinishedRun) -> ModelFacts:
    """Collects the facts of the card from the network, the settings and the run's files."""
    parts = {name: network.get_submodule(name) for name in PARTS}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    if network.image_newline is not None:
        counts["image_newline"] = network.image_newline.numel()
    config = run.config
    stage = asdict(config.stage) | decisive_options(config)
    if config.preference is not None:
        stage |= asdict(config.preference)
    return ModelFacts(
        name=run.directory.path.resolve().name,
        num_parameters=counts,
        stages={str(stage.pop("name")): stage},
        sources=run.sources,
        starts=[Start(name=str(path)) for path in run.starts.directories],
        spent=_spent(run),
        scores=_scores(run),
        model=str(run.directory.checkpoint),
    )


def _write_card(network: LlavaNetwork, run: FinishedRun) -> None:
    card = model_card(collect_facts(network, run))
    write_text(run.directory.checkpoint / CARD, card)


def _spent(run: FinishedRun) -> Spent:
    lines = read_metrics(run.directory.path / METRICS)
    if not lines:
        return Spent(device=run.device)
    return Spent(
        hours=lines[-1]["elapsed_seconds"] / 3600,
        device=run.device,
        num_tokens=sum(line["tokens"] for line in lines),
    )


def _scores(run: FinishedRun) -> dict[str, HeldoutScore]:
    """Returns the evaluation of the last step, if there was one."""
    lines = read_metrics(run.directory.path / METRICS)
    last = lines[-1]["step"] if lines else None
    rounds = [r for r in read_notes(run.directory.path / EVALUATIONS) if r["step"] == last]
    if not rounds:
        return {}
    count, model = rounds[-1]["questions"], run.directory.checkpoint
    return {
        f"{scenario.replace('_', ' ')}, exact match of {count} held-out questions": HeldoutScore(
            value=f"{100 * share:.1f} %",
            command=f"onevision eval --model {model} --scenario {scenario} --count {count} "
            "--no-blind",
        )
        for scenario, share in rounds[-1]["accuracy"].items()
    }


def _attempt(act: Callable[[], object], run: FinishedRun, *, what: str) -> None:
    """Does what the checkpoint does not depend on."""
    try:
        act()
    except (OneVisionError, OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        run.warn(
            f"{run.directory.path}: {what} could not be written ({error}); the weights are safe"
        )


def _hub_id(source: str | None) -> str | None:
    return source if source is not None and source.count("/") == 1 else None

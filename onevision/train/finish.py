"""A stage that is over -> its checkpoint with a model card, its adapter, its curves.

    runs/a/
        checkpoint/       the network, adapters merged; README.md is its card
        adapter/          the adapters alone, in PEFT's format, where some were trained
        report.html       and curves.png: how it went

The checkpoint comes first: what fails after it is a warning.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from onevision.checkpoint.save import save
from onevision.config import ModelConfig
from onevision.errors import OneVisionError
from onevision.files import write_text
from onevision.inputs.templates import end_ids
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.feed import Feed
from onevision.train.lora.adapt import write_adapter
from onevision.train.lora.layers import merge
from onevision.train.mixture_feed import MixtureFeed
from onevision.train.recipes import PARTS
from onevision.train.report.card import ModelFacts, Score, Source, Spent, Start, model_card
from onevision.train.report.curves import write_curves
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.report.notes import EVALUATIONS, read_notes
from onevision.train.settings import Settings, decisive_options
from onevision.train.start import Starts

CHECKPOINT, ADAPTER, CARD = "checkpoint", "adapter", "README.md"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What is known of a run that has come to its end."""

    settings: Settings
    config: ModelConfig
    tokenizer: Tokenizer
    starts: Starts
    output: Path
    sources: Sequence[Source] = ()
    device: str | None = None
    warn: Callable[[str], object] = str


def write_result(network: LlavaNetwork, ending: Ending) -> Path:
    """Write all there is to write; returns the checkpoint. Merges the network's adapters in place.

    Raises CheckpointError where the checkpoint or the adapter cannot be written.
    """
    lora, checkpoint = ending.settings.options.lora, ending.output / CHECKPOINT
    if lora is not None:
        write_adapter(
            network,
            lora,
            ending.settings.stage,
            ending.output / ADAPTER,
            base_model=str(ending.starts.previous[0]),
        )
        merge(network)
    ends = end_ids(ending.settings.target.inputs.template, ending.tokenizer)
    end = json.dumps({"eos_token_id": list(ends)})
    companions = {"generation_config.json": end}
    save(network, ending.config, ending.tokenizer, checkpoint, companions=companions)
    _attempt(lambda: _write_card(network, ending), ending, what="the model card")
    _attempt(lambda: write_curves(ending.output, warn=ending.warn), ending, what="the curves")
    return checkpoint


def sources_of(feed: Feed) -> list[Source]:
    """Return what a feed draws from, with rows and licences where they are known."""
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


def facts_of(network: LlavaNetwork, ending: Ending) -> ModelFacts:
    """Collect what the card says from the network, the settings and the run's files."""
    parts = {name: network.get_submodule(name) for name in PARTS}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    if network.image_newline is not None:
        counts["image_newline"] = network.image_newline.numel()
    settings = ending.settings
    stage = asdict(settings.stage) | decisive_options(settings)
    if settings.preference is not None:
        stage |= asdict(settings.preference)
    return ModelFacts(
        name=ending.output.resolve().name,
        num_parameters=counts,
        stages={str(stage.pop("name")): stage},
        sources=ending.sources,
        starts=[Start(name=str(path)) for path in ending.starts.directories],
        spent=_spent(ending),
        scores=_scores(ending),
        model=str(ending.output / CHECKPOINT),
    )


def _write_card(network: LlavaNetwork, ending: Ending) -> None:
    card = model_card(facts_of(network, ending))
    write_text(ending.output / CHECKPOINT / CARD, card)


def _spent(ending: Ending) -> Spent:
    lines = read_metrics(ending.output / METRICS)
    if not lines:
        return Spent(device=ending.device)
    return Spent(
        hours=lines[-1]["elapsed_seconds"] / 3600,
        device=ending.device,
        num_tokens=sum(line["tokens"] for line in lines),
    )


def _scores(ending: Ending) -> dict[str, Score]:
    """Return the evaluation of the last step, if there was one."""
    lines = read_metrics(ending.output / METRICS)
    last = lines[-1]["step"] if lines else None
    rounds = [r for r in read_notes(ending.output / EVALUATIONS) if r["step"] == last]
    if not rounds:
        return {}
    count, model = rounds[-1]["questions"], ending.output / CHECKPOINT
    return {
        f"{scenario.replace('_', ' ')}, exact match of {count} held-out questions": Score(
            value=f"{100 * share:.1f} %",
            command=f"onevision eval --model {model} --scenario {scenario} --count {count} "
            "--no-blind",
        )
        for scenario, share in rounds[-1]["accuracy"].items()
    }


def _attempt(act: Callable[[], object], ending: Ending, *, what: str) -> None:
    """Do what the checkpoint does not depend on."""
    try:
        act()
    except (OneVisionError, OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        ending.warn(f"{ending.output}: {what} could not be written ({error}); the weights are safe")


def _hub_id(source: str | None) -> str | None:
    return source if source is not None and source.count("/") == 1 else None

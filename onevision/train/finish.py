"""A finished run -> its checkpoint with a model card, its adapter, its curves.

    runs/a/
        checkpoint/       the network, adapters merged; README.md is its card
        adapter/          the adapters alone, in PEFT's format, if some were trained; its card names
                          the model that they lie on
        report.html       and curves.png: how it went

The checkpoint is written first; a failure after it is only a warning.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from onevision.checkpoint.save import save_weights
from onevision.config import ModelConfig
from onevision.errors import OneVisionError
from onevision.files import write_text
from onevision.generate.placing import DTYPES
from onevision.inputs.templates import end_ids
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig
from onevision.train.directory import RunDirectory
from onevision.train.feed import Feed
from onevision.train.lora.adapt import write_adapter
from onevision.train.lora.layers import LoraConfig
from onevision.train.mixture_feed import MixtureFeed
from onevision.train.origin import ORIGIN, describe_origin
from onevision.train.report.card import Source, adapter_card, model_card
from onevision.train.report.curves import write_curves
from onevision.train.report.facts import collect_facts, describe_start
from onevision.train.sharded.export import TrainedWeights
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


def write_result(weights: TrainedWeights, run: FinishedRun) -> Path:
    """Writes everything and returns the checkpoint; the first process calls it.

    Raises CheckpointError if the checkpoint or the adapter cannot be written.
    """
    lora, checkpoint = run.config.options.lora, run.directory.checkpoint
    if lora is not None:
        write_adapter(
            weights.network,
            lora,
            run.directory.adapter,
            base=run.starts.previous[0],
            config=run.model_config,
            fetch=weights.fetch_trained,
            warn=run.warn,
        )
        _attempt(lambda: _write_adapter_card(lora, run), run, what="the adapter's card")
    ends = end_ids(run.config.target.inputs.template, run.tokenizer)
    end = json.dumps({"eos_token_id": list(ends)})
    companions = {
        "generation_config.json": end,
        ORIGIN: describe_origin(run.config.stage.name),
    }
    save_weights(
        dict(weights.plain.state_dict()),
        weights.fetch,
        run.model_config,
        run.tokenizer,
        checkpoint,
        dtype=result_type(run),
        companions=companions,
    )
    _attempt(lambda: _write_card(weights.plain, run), run, what="the model card")
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


def _write_card(network: LlavaNetwork, run: FinishedRun) -> None:
    directory = run.directory
    facts = collect_facts(
        network, run.config, run.starts, directory, sources=run.sources, device=run.device
    )
    write_text(directory.checkpoint / CARD, model_card(facts))


def _write_adapter_card(lora: LoraConfig, run: FinishedRun) -> None:
    card = adapter_card(
        adapter=run.directory.adapter.resolve(),
        base=describe_start(run.starts.previous[0]),
        rank=lora.rank,
        parts=lora.parts,
    )
    write_text(run.directory.adapter / CARD, card)


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

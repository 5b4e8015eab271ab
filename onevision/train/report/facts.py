"""A finished run -> the facts of its model card; settings that do not apply to it are left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from onevision.files import Line
from onevision.model.llava import LlavaNetwork
from onevision.plural import counted
from onevision.train.config import TrainConfig, decisive_options
from onevision.train.directory import RunDirectory
from onevision.train.report.card import HeldoutScore, ModelFacts, Source, Spent, Start
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.report.notes import EVALUATIONS, read_notes
from onevision.train.stage import PARTS
from onevision.train.start import HUB_CACHE, Starts, name_start

FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
OF_FAMILIES = ("families", "num_samples", "max_questions", "aspects")
OF_HELD_OUT = ("held_out_steps", "keep_best", "early_stop")


def collect_facts(
    network: LlavaNetwork,
    config: TrainConfig,
    starts: Starts,
    directory: RunDirectory,
    *,
    sources: Sequence[Source] = (),
    device: str | None = None,
) -> ModelFacts:
    """Collects the facts of the card from the network, the settings and the run's files."""
    parts = {name: network.get_submodule(name) for name in PARTS}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    counts |= {name: vector.numel() for name, vector in network.learned_tokens.items()}
    lines = read_metrics(directory.path / METRICS)
    return ModelFacts(
        name=directory.path.resolve().name,
        num_parameters=counts,
        stages={config.stage.name: list_settings(config)},
        sources=sources,
        starts=[describe_start(path) for path in starts.directories],
        spent=_spent(lines, device=device),
        scores=_scores(lines, directory),
        model=str(directory.checkpoint),
    )


def list_settings(config: TrainConfig) -> dict[str, object]:
    """Returns the settings that decided the run, by name, without those that had no effect."""
    stage, options = config.stage, config.options
    values: dict[str, object] = asdict(stage) | decisive_options(config)
    del values["name"]
    if config.preference is not None:
        values |= asdict(config.preference)
    if config.reinforce is not None:
        values |= asdict(config.reinforce)
    values["template"] = stage.template or config.target.inputs.template
    if "projector" in stage.trainable:
        values["projector_learning_rate"] = stage.projector_learning_rate or stage.learning_rate
    idle = {"vision_learning_rate"} if "vision_encoder" not in stage.trainable else set[str]()
    if stage.vision_objective == "caption":  # the words of answers, as everywhere
        idle.add("vision_objective")
    idle.update(OF_FAMILIES if stage.mixture is not None else ("labels",))
    if options.held_out is None:
        idle.update(OF_HELD_OUT)
    elif not options.held_out_steps:
        values["held_out_steps"] = "a tenth of the run"
    if options.lora is None:
        idle.update(key for key in values if key.startswith("lora_"))
    else:
        values |= {"lora_parts": options.lora.parts, "lora_layers": options.lora.layers}
    return {
        k: v for k, v in values.items() if k not in idle and v is not None and v not in ((), {})
    }


def describe_start(path: Path) -> Start:
    """Describes a checkpoint as far as its place and its card say."""
    found = HUB_CACHE.search(path.as_posix())
    return Start(
        name=name_start(path),
        hub_id=None if found is None else f"{found['owner']}/{found['name']}",
        revision=None if found is None else found["revision"],
        licence=_read_licence(path / "README.md"),
    )


def _read_licence(card: Path) -> str | None:
    """Returns the licence in the front matter of a model card; None if it names none."""
    try:
        found = FRONT_MATTER.match(card.read_text(encoding="utf-8"))
        values = yaml.safe_load(found[1]) if found else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    licence = values.get("license") if isinstance(values, Mapping) else None
    return licence if isinstance(licence, str) else None


def _spent(lines: Sequence[Line], *, device: str | None) -> Spent:
    if not lines:
        return Spent(device=device)
    return Spent(
        hours=float(f"{lines[-1]['elapsed_seconds'] / 3600:.3g}"),
        device=device,
        num_tokens=sum(line["tokens"] for line in lines),
    )


def _scores(lines: Sequence[Line], directory: RunDirectory) -> dict[str, HeldoutScore]:
    """Returns the evaluation of the last step, if there was one."""
    last = lines[-1]["step"] if lines else None
    rounds = [r for r in read_notes(directory.path / EVALUATIONS) if r["step"] == last]
    if not rounds:
        return {}
    count, model = rounds[-1]["questions"], directory.checkpoint
    asked = counted(count, "held-out question")
    return {
        f"{scenario.replace('_', ' ')}, exact match of {asked}": HeldoutScore(
            value=f"{100 * share:.1f} %",
            command=f"onevision eval --model {model} --scenario {scenario} --count {count} "
            "--no-blind",
        )
        for scenario, share in rounds[-1]["accuracy"].items()
    }

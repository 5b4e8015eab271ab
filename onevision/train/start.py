"""A stage -> the network it begins with: random, from pretrained parts, or from earlier stages."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from onevision.anyres import VideoRule
from onevision.checkpoint.adapted import EMBEDDING, TIED_HEAD
from onevision.checkpoint.checksums import verify_checksums
from onevision.checkpoint.contents import ADAPTER_CONFIG
from onevision.checkpoint.files import StoredTensor, check_finite, read_json
from onevision.checkpoint.hub import BUNDLED, resolve
from onevision.checkpoint.load import CheckpointInfo, check_plain, inspect
from onevision.checkpoint.parts.pretrained import find_language_model, find_vision_encoder
from onevision.checkpoint.quantised import refuse_quantised
from onevision.config import InputConfig, ModelConfig
from onevision.errors import ConfigError
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.origin import read_origin
from onevision.train.stage import PARTS, Stage
from onevision.train.stages import WHOLE_MODELS

INITIAL_STD = 0.02
# Modules whose weights are drawn; what others begin with is up to them.
DRAWN = (nn.Linear, nn.Embedding, nn.Conv2d)
# Where the hub's cache keeps a revision of a model.
HUB_CACHE = re.compile(
    r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)/snapshots/(?P<revision>\w+)"
)
# The one part that is taken from the output of these stages.
PART_MADE_BY = {"vision": "vision_encoder", "language": "language_model"}


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Checkpoints a run begins with: of earlier stages, in the stage's order, or of parts."""

    previous: tuple[Path, ...] = ()
    language_model: Path | None = None
    vision_encoder: Path | None = None

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every checkpoint that is read."""
        parts = (self.language_model, self.vision_encoder)
        return (*self.previous, *(part for part in parts if part is not None))


def start_network(
    stage: Stage, config: ModelConfig, starts: Starts, *, verify: bool = True
) -> LlavaNetwork:
    """Builds the network of `stage` from its starts; missing parts are initialised at random.

    With `verify`, weights must have their checksums. Raises CheckpointError, and ConfigError if the
    starts do not fit the stage or the architecture.
    """
    check_starts(stage, config, starts)
    network = LlavaNetwork(config)
    for module in drawn_modules(network):
        initialise(module)
    parameters = dict(network.named_parameters())
    for name, stored in find_weights(network, stage, starts).items():
        tensor = stored.read()
        if verify:
            check_finite(tensor, stored.name, where=stored.path)
        with torch.no_grad():
            parameters[name].copy_(tensor)
    if verify:  # last: a number that is not finite says more
        verify_starts(starts)
    return network


def check_starts(stage: Stage, config: ModelConfig, starts: Starts) -> None:
    """Refuses starts that are not those of the stage, or of another model. Raises ConfigError."""
    _check_number(stage, starts)
    for path in starts.previous:
        _check_order(stage, path)
        _check_rules(config.inputs, path)


def find_weights(network: LlavaNetwork, stage: Stage, starts: Starts) -> dict[str, StoredTensor]:
    """Returns the stored tensor of each parameter that a start holds, by its name.

    The network's parameters may be without memory. Raises CheckpointError, ConfigError.
    """
    found: dict[str, StoredTensor] = {}
    if starts.language_model is not None:
        found |= find_language_model(network, starts.language_model)
    if starts.vision_encoder is not None:
        found |= find_vision_encoder(network, starts.vision_encoder)
    if len(starts.previous) > 1:
        for made_by, path in zip(stage.starts_from, starts.previous, strict=True):
            found |= _find_parts(network, inspect(path), (PART_MADE_BY[made_by],))
    elif starts.previous:
        info = inspect(starts.previous[0])
        found |= _find_parts(network, info, PARTS)
        # FIDELITY: the align stage has no `image_newline`; it starts as N(0, 1/D) in the next one.
        found |= {name: info.tensors[name] for name in network.learned_tokens.keys() & info.tensors}
    return found


def verify_starts(starts: Starts) -> None:
    """Compares the files of earlier stages with their checksums. Raises CheckpointError."""
    for path in starts.previous:
        verify_checksums(inspect(path).tensors.values())


def drawn_modules(network: LlavaNetwork) -> list[nn.Module]:
    """Returns the modules whose weights are drawn by `initialise`, in the order of the draws."""
    found: list[nn.Module] = []
    network.apply(lambda module: found.append(module) if isinstance(module, DRAWN) else None)
    return found


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draws the weight of a module of `drawn_modules`; its bias is zero."""
    for name, parameter in module.named_parameters(recurse=False):
        draw(parameter, name)


def draw(tensor: Tensor, name: str) -> Tensor:
    """Fills a "weight" with random numbers and a "bias" with zeros, in place; returns it."""
    if name == "weight":
        return nn.init.normal_(tensor, std=INITIAL_STD)
    return nn.init.zeros_(tensor)


def find_start(name: str | Path) -> Path:
    """Returns the directory of a checkpoint: bundled, on disk, or on the hub.

    Raises ModelNotFoundError, CheckpointError for quantised weights, which cannot be trained, and
    ConfigError for a directory that holds no whole checkpoint.
    """
    path = resolve(name)
    if (path / "config.json").is_file():
        refuse_quantised(read_json(path / "config.json"), {}, where=str(path))
        return path
    beside = [one for one in (path / "checkpoint", path.parent / "checkpoint") if one.is_dir()]
    advice = f"give {beside[0]}" if beside else "give a directory with config.json and weights"
    if (path / ADAPTER_CONFIG).is_file():
        advice += ", which has the adapters merged" if beside else " that has the adapters merged"
        raise ConfigError(f"{path}: it holds adapters alone, not a whole checkpoint; {advice}")
    raise ConfigError(f"{path}: it holds no config.json, so it is no checkpoint; {advice}")


def name_start(path: Path) -> str:
    """Returns what --model takes for a checkpoint: a bundled name, a hub id, or its directory."""
    for name, bundled in BUNDLED.items():
        if path.resolve() == bundled.resolve():
            return name
    found = HUB_CACHE.search(path.as_posix())
    return str(path) if found is None else f"{found['owner']}/{found['name']}"


def check_tokenizer(tokenizer: Tokenizer, starts: Starts) -> None:
    """Refuses starts that were trained with another tokenizer. Raises ConfigError."""
    for path in starts.previous:
        file = path / "tokenizer.json"
        if not file.is_file():  # as some releases; it was given by hand
            continue
        definition = file.read_text(encoding="utf-8")
        if json.loads(definition) != json.loads(tokenizer.definition):
            raise ConfigError(
                f"{path}: its tokenizer is not {tokenizer.name}; use the one it was trained with"
            )


def _check_number(stage: Stage, starts: Starts) -> None:
    parts = starts.language_model is not None or starts.vision_encoder is not None
    one = len(starts.previous) == 1  # of the stage before, or its own output to train for longer
    fits = len(starts.previous) in (0, len(stage.starts_from)) if parts else False
    if fits or one or len(starts.previous) == len(stage.starts_from):
        return
    raise ConfigError(
        f"stage {stage.name} starts from {' and '.join(stage.starts_from) or 'nothing'}; "
        f"{len(starts.previous)} checkpoints were given"
    )


def _check_order(stage: Stage, path: Path) -> None:
    """Refuses output of a stage that does not come before; weights from elsewhere have no stage.

    What a checkpoint says of itself counts, not what lies beside it. Tuning and preference
    learning leave whole models, which any stage may train further.
    """
    made_by = read_origin(path)
    if made_by is None or made_by in WHOLE_MODELS:
        return
    if stage.name not in WHOLE_MODELS and made_by not in (*stage.starts_from, stage.name):
        raise ConfigError(
            f"{path}: it is of stage {made_by}; {stage.name} starts from "
            f"{' and '.join(stage.starts_from) or 'nothing'}"
        )


def _check_rules(inputs: InputConfig, path: Path) -> None:
    """Refuses other patches, pixels or placeholders; grids may grow from stage to stage."""
    theirs = inspect(path).config.inputs
    for name, mine, other in (
        ("crop_size", inputs.image.crop_size, theirs.image.crop_size),
        ("patch_size", inputs.image.patch_size, theirs.image.patch_size),
        ("image_token_id", inputs.image_token_id, theirs.image_token_id),
        ("image_mean", inputs.image_mean, theirs.image_mean),
        ("image_std", inputs.image_std, theirs.image_std),
        ("video pool", _video_pool(inputs), _video_pool(theirs)),
    ):
        if mine != other:
            raise ConfigError(
                f"{path}: its {name} is {other}, this model's is {mine}; "
                "start from a stage of the same model"
            )


def _video_pool(inputs: InputConfig) -> str | None:
    """Returns how frames are pooled; None if they are not."""
    return inputs.video.pool if isinstance(inputs.video, VideoRule) else None


def stored_type(starts: Starts) -> torch.dtype | None:
    """Returns the type of the weights in the one checkpoint a run begins with; None without one.

    Raises CheckpointError.
    """
    if len(starts.previous) != 1:
        return None
    stored = inspect(starts.previous[0]).tensors[EMBEDDING].read().dtype
    return stored if stored.is_floating_point else None


def _find_parts(
    network: LlavaNetwork, info: CheckpointInfo, parts: Sequence[str]
) -> dict[str, StoredTensor]:
    """Returns the stored tensors of some parts, which must be those of the network."""
    check_plain(info, use="training starts from")
    found: dict[str, StoredTensor] = {}
    for part in parts:
        named = network.get_submodule(part).named_parameters()
        expected = {f"{part}.{name}": tuple(parameter.shape) for name, parameter in named}
        held = {n: t for n, t in info.tensors.items() if n.startswith(f"{part}.")}
        if TIED_HEAD in expected and info.config.language.tie_embeddings:
            held[TIED_HEAD] = info.tensors[EMBEDDING]
        if expected != {name: tensor.shape for name, tensor in held.items()}:
            raise ConfigError(
                f"{info.directory}: its {part.replace('_', ' ')} does not fit this model; "
                "give the checkpoint of the same architecture"
            )
        found |= held
    return found

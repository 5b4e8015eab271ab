"""The stages of the curriculum, written as differences from one another.

The paper's four (arXiv 2408.03326, table 1) are align, knowledge, single_image and onevision. A
model without pretrained parts, such as `tiny`, first makes them: vision and language.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType

from onevision.anyres import SingleCrop
from onevision.config import LanguageConfig, ModelConfig, Template
from onevision.errors import ConfigError

ALL_PARTS = ("vision_encoder", "projector", "language_model")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: what is trained, on what, and how fast."""

    name: str
    # Parts that learn; the others stay as they came.
    trainable: tuple[str, ...] = ALL_PARTS
    template: Template = "qwen_1_5"
    # Procedural families and how often each is drawn.
    families: MappingProxyType[str, float]
    # Questions learned of each sample, beside its caption.
    max_questions: int = 6
    # Learn single properties of everything in view too: what is small is learned late otherwise.
    aspects: bool = False
    # Samples seen, and tokens of one optimiser step (a row counts with its padding).
    num_samples: int
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    vision_learning_rate: float = 5e-4
    # Share of the run in which the rates rise from zero.
    warmup: float = 0.03
    max_grad_norm: float = 1.0


def _families(**weights: float) -> MappingProxyType[str, float]:
    return MappingProxyType(weights)


VISION = Stage(
    name="vision",
    template="plain",
    families=_families(scenes=1.0),
    max_questions=0,
    aspects=True,
    num_samples=250_000,
    vision_learning_rate=1e-3,
)
LANGUAGE = replace(
    VISION,
    name="language",
    trainable=("language_model",),
    aspects=False,
    template="qwen_1_5",
    families=_families(texts=1.0),
    max_questions=4,
    num_samples=4_000,
)
ALIGN = replace(
    VISION,
    name="align",
    trainable=("projector",),
    aspects=False,
    num_samples=8_000,
    learning_rate=3e-3,
)
KNOWLEDGE = replace(
    ALIGN,
    name="knowledge",
    trainable=ALL_PARTS,
    template="qwen_1_5",
    families=_families(scenes=0.95, texts=0.05),
    max_questions=4,
    num_samples=12_000,
    learning_rate=1e-3,
    vision_learning_rate=5e-4,
)
SINGLE_IMAGE = replace(
    KNOWLEDGE,
    name="single_image",
    families=_families(scenes=0.97, texts=0.03),
    max_questions=8,
    num_samples=20_000,
)
ONEVISION = replace(
    SINGLE_IMAGE,
    name="onevision",
    families=_families(scenes=0.3, pairs=0.35, clips=0.32, texts=0.03),
    num_samples=30_000,
)

STAGES = {s.name: s for s in (VISION, LANGUAGE, ALIGN, KNOWLEDGE, SINGLE_IMAGE, ONEVISION)}
# What a stage starts from: the outputs of these.
STARTS_FROM = {
    "vision": (),
    "language": (),
    "align": ("vision", "language"),
    "knowledge": ("align",),
    "single_image": ("knowledge",),
    "onevision": ("single_image",),
}


def stage_named(name: str) -> Stage:
    """Return a stage. Raises ConfigError for an unknown name."""
    if name not in STAGES:
        raise ConfigError(f"no stage {name!r}; expected one of {', '.join(STAGES)}")
    return STAGES[name]


def stage_config(stage: Stage, target: ModelConfig) -> ModelConfig:
    """Return the architecture that trains in `stage`, on the way to `target`.

    Up to align, a picture is one squashed crop and there is no `image_newline`. The vision stage
    reads captions off a small decoder that is thrown away.
    """
    if stage.name not in ("vision", "language", "align"):
        return target
    crop = target.inputs.image
    flat = SingleCrop(
        crop_size=crop.crop_size, patch_size=crop.patch_size, fit="squash", newline=False
    )
    config = replace(
        target,
        image_newline=False,
        inputs=replace(target.inputs, image=flat, multi_image=flat, template=stage.template),
    )
    if stage.name == "vision":
        return replace(config, language=_caption_decoder(target.language))
    return config


def _caption_decoder(language: LanguageConfig) -> LanguageConfig:
    return replace(
        language,
        hidden_size=192,
        intermediate_size=512,
        num_layers=3,
        num_heads=3,
        num_kv_heads=3,
    )

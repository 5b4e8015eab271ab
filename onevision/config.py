"""Architectures as frozen values: what a checkpoint is, and how pictures and words enter it."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from onevision.anyres import AnyRes, ImageRule, SingleCrop, VideoRule
from onevision.errors import ConfigError
from onevision.values import from_plain, to_plain

# Version of our own config.json and tensor names; raised when old readers would misread them.
FORMAT_VERSION = 2
# Of which the second added the family's fields: to a first they have their defaults.
READABLE_VERSIONS = (1, 2)

# Chat formats by the reference's names; what they are is in inputs/templates.py.
Template = Literal[
    "plain", "qwen_1_5", "qwen_2_5", "chatml_direct", "vicuna_v1", "llava_v1", "llava_v0",
    "llava_llama_2", "llava_llama_3", "mistral_instruct",
]  # fmt: skip
Activation = Literal["gelu_tanh", "quick_gelu", "gelu"]
Triple = tuple[float, float, float]
# What CLIP's pixels are normalised with.
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A SigLIP or CLIP tower, cut after `num_layers` blocks; by default so400m-patch14-384."""

    hidden_size: int = 1152
    intermediate_size: int = 4304
    # Blocks that run: so400m has 27, and its last one is never used.
    num_layers: int = 26
    num_heads: int = 16
    image_size: int = 384
    patch_size: int = 14
    layer_norm_eps: float = 1e-6
    activation: Activation = "gelu_tanh"
    # CLIP's beginning: a class token before the patches (which goes no further than the tower), a
    # norm before the first block, patches without a bias.
    class_token: bool = False
    # Blocks after those that run, which checkpoints carry: one where CLIP's layer -2 is read.
    num_spare_layers: int = 0

    def __post_init__(self) -> None:
        names = ("layer_norm_eps", "activation", "class_token", "num_spare_layers")
        _positive(self, exclude=names)
        _divisible(self, "hidden_size", by="num_heads")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def num_patches(self) -> int:
        """Patches of one crop; a remainder at the right and bottom edge is never seen."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """Linear layers from vision width to language width, exact GELU between them."""

    # 1 is LLaVA v1's linear projector, 2 the MLP of everything later.
    num_layers: int = 2

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A decoder of Qwen2's kind: LLaMA, Mistral, Qwen1.5 too. The defaults are Qwen2-0.5B."""

    vocab_size: int = 151936
    hidden_size: int = 896
    intermediate_size: int = 4864
    num_layers: int = 24
    num_heads: int = 14
    num_kv_heads: int = 2
    # Positions that were trained; a longer prompt is refused.
    max_positions: int = 32768
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    # Whether the output head is the embedding itself.
    tie_embeddings: bool = True
    # Whether queries, keys and values have biases: Qwen's do, LLaMA's and Mistral's do not.
    attention_bias: bool = True
    # Rotary positions are divided by this ("linear" scaling), to reach beyond the trained ones.
    rope_factor: float = 1.0
    # So many positions back, itself included, a token sees; None sees all. Mistral's first: 4096.
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        names = ("rms_norm_eps", "tie_embeddings", "attention_bias", "sliding_window")
        _positive(self, exclude=names)
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ConfigError(f"sliding_window is {self.sliding_window}; expected 1 or more")
        _divisible(self, "hidden_size", by="num_heads")
        _divisible(self, "num_heads", by="num_kv_heads")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How a conversation becomes ids and crops."""

    # For the only image of a conversation.
    image: ImageRule = field(default_factory=AnyRes)
    # For every image of a conversation that holds several.
    multi_image: ImageRule = field(default_factory=SingleCrop)
    video: VideoRule = field(default_factory=VideoRule)
    template: Template = "qwen_1_5"
    # Pixels are scaled to 0..1, then normalised with these.
    image_mean: Triple = (0.5, 0.5, 0.5)
    image_std: Triple = (0.5, 0.5, 0.5)
    # The id that stands for every visual token; any row of the embedding will do.
    image_token_id: int = 151646

    def __post_init__(self) -> None:
        sizes = {(r.crop_size, r.patch_size) for r in (self.image, self.multi_image, self.video)}
        if len(sizes) > 1:
            raise ConfigError(f"image and video rules differ in crop and patch size: {sizes}")
        if not all(std > 0 for std in self.image_std):
            raise ConfigError(f"image_std is {self.image_std}; expected positive numbers")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model: its three parts, and how input is prepared for it."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    inputs: InputConfig = field(default_factory=InputConfig)
    # Whether the learned end-of-row vector exists; it does from the second stage on.
    image_newline: bool = True

    def __post_init__(self) -> None:
        rule, vision = self.inputs.image, self.vision
        if (rule.crop_size, rule.patch_size) != (vision.image_size, vision.patch_size):
            raise ConfigError(
                f"crops of {rule.crop_size} px in patches of {rule.patch_size} do not fit a vision "
                f"encoder of {vision.image_size} px in patches of {vision.patch_size}"
            )
        if not 0 <= self.inputs.image_token_id < self.language.vocab_size:
            raise ConfigError(
                f"image_token_id {self.inputs.image_token_id} is outside the vocabulary "
                f"of {self.language.vocab_size}"
            )

    def to_json(self) -> str:
        """Renders as the text of our config.json."""
        values = {"format_version": FORMAT_VERSION, "model_type": "onevision"} | to_plain(self)
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Reads the content of our config.json; unknown and missing keys are errors."""
        values = dict(values)
        version, kind = values.pop("format_version", None), values.pop("model_type", None)
        if version not in READABLE_VERSIONS or kind != "onevision":
            raise ConfigError(
                f"found format_version {version!r} and model_type {kind!r}; "
                f"this release reads {READABLE_VERSIONS} and 'onevision'"
            )
        return from_plain(cls, values, where="config", complete=version == FORMAT_VERSION)


def _positive(config: object, exclude: tuple[str, ...] = ()) -> None:
    for name, value in vars(config).items():
        if name not in exclude and not value > 0:
            raise ConfigError(f"{type(config).__name__}.{name} is {value}; expected more than 0")


def _divisible(config: object, name: str, *, by: str) -> None:
    value, divisor = vars(config)[name], vars(config)[by]
    if value % divisor:
        raise ConfigError(
            f"{type(config).__name__}: {name} {value} is not a multiple of {by} {divisor}"
        )

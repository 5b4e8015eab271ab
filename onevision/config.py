"""Architectures as frozen values: what a checkpoint is, and how pictures and words enter it."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from onevision.anyres import AnyRes, Fit, ImageRule, SingleCrop, VideoRule
from onevision.conv_config import ConvNetConfig
from onevision.errors import ConfigError
from onevision.image_rules import has_fast_frames
from onevision.native import Native
from onevision.values import from_plain, to_plain

# Version of our own config.json and tensor names; raised when old readers would misread them.
FORMAT_VERSION = 4
# The second added fields of the family, the third those of OneVision-1.5, and names the classes of
# vision encoder and video rule, the fourth many more: files without them have the defaults.
READABLE_VERSIONS = (1, 2, 3, 4)
NAMED_CLASSES = 3  # the first version whose files name those classes

# Chat formats by the reference's names; what they are is in inputs/templates.py.
Template = Literal[
    "plain", "qwen_1_5", "qwen_2_5", "chatml_direct", "vicuna_v1", "llava_v1", "llava_v0",
    "llava_llama_2", "llava_llama_3", "mistral_instruct", "onevision_1_5", "onevision_2",
]  # fmt: skip
Activation = Literal["gelu_tanh", "quick_gelu", "gelu"]
Triple = tuple[float, float, float]
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A ViT: SigLIP, CLIP, RICE, OneVision-Encoder, of `num_layers` blocks; by default SigLIP."""

    hidden_size: int = 1152
    intermediate_size: int = 4304
    # Blocks that run: so400m has 27, and its last one is never used.
    num_layers: int = 26
    num_heads: int = 16
    # Pixels along one side of a crop; of a cell where positions are rotary.
    image_size: int = 384
    patch_size: int = 14
    layer_norm_eps: float = 1e-6
    activation: Activation = "gelu_tanh"
    # CLIP's beginning: a class token before the patches (which goes no further than the tower), a
    # norm before the first block, patches without a bias.
    class_token: bool = False
    # Positions are rotations by row and column, not a table, and the patches of a whole picture
    # attend to one another (RICE-ViT).
    rotary: bool = False
    # They are rotations by time too, of neighbouring channels, and no class token stands before the
    # patches (OneVision-Encoder).
    rotary_time: bool = False
    # Blocks after those that run, which checkpoints carry: one where CLIP's layer -2 is read.
    num_spare_layers: int = 0

    def __post_init__(self) -> None:
        flags = ("class_token", "rotary", "rotary_time")
        _positive(self, exclude=("layer_norm_eps", "activation", "num_spare_layers", *flags))
        _divisible(self, "hidden_size", by="num_heads")
        if self.rotary or self.rotary_time:
            self._check_rotary()

    def _check_rotary(self) -> None:
        least, fits = (32, not self.class_token) if self.rotary_time else (4, self.class_token)
        if not (fits and self.rotary) or self.num_spare_layers or self.head_size % least:
            raise ConfigError(
                f"VisionConfig: rotary {self.rotary}, rotary_time {self.rotary_time}, class_token "
                f"{self.class_token}, num_spare_layers {self.num_spare_layers} and heads of "
                f"{self.head_size}; expected rotary, a class token or else rotary_time, no spare "
                f"layer, and heads of a multiple of {least}"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def num_patches(self) -> int:
        """Patches of one crop; a remainder at the right and bottom edge is never seen."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def fit(self) -> Fit:
        """How its processor makes a picture square: CLIP's crops the middle, SigLIP's squashes."""
        return "crop" if self.class_token else "squash"

    @property
    def weight_flops(self) -> float:
        """Operations of the blocks' weights on one crop, forward."""
        width = self.hidden_size
        weights = self.num_layers * (4 * width**2 + 2 * width * self.intermediate_size)
        return 2.0 * weights * self.num_patches

    @property
    def attention_flops(self) -> float:
        """Operations of attention per pair of patches that see each other, forward."""
        return 4.0 * self.num_layers * self.hidden_size

    @property
    def flops(self) -> float:
        """Operations of one crop that is encoded by itself, forward."""
        return self.weight_flops + self.num_patches**2 * self.attention_flops


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """Linear layers from vision width to language width, exact GELU between them."""

    # 1 is LLaVA v1's linear projector, 2 the MLP of everything later.
    num_layers: int = 2
    # Patches along one side of a square that is normed and joined before the first layer.
    merge: int = 1
    # Of the norm before them.
    layer_norm_eps: float = 1e-5
    # Before them, transformer blocks over the patches of a crop: how many, their width and heads.
    num_blocks: int = 0
    block_width: int = 256
    block_heads: int = 4

    def __post_init__(self) -> None:
        _positive(self, exclude=("num_blocks",))
        _divisible(self, "block_width", by="block_heads")
        if self.num_blocks < 0 or (self.num_blocks and self.merge > 1):
            told = f"num_blocks {self.num_blocks} with merge {self.merge}"
            raise ConfigError(f"ProjectorConfig: {told}; expected 0 or more, none where it merges")


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A decoder of Qwen2's kind: LLaMA, Mistral, Qwen1.5, Qwen3 too. By default Qwen2-0.5B."""

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
    # Width of one attention head, where it is not hidden_size / num_heads (Qwen3).
    head_dim: int | None = None
    # Whether the heads of queries and keys are normed before they are rotated (Qwen3).
    head_norms: bool = False
    # Rotary positions are divided by this ("linear" scaling), to reach beyond the trained ones.
    rope_factor: float = 1.0
    # So many positions back, itself included, a token sees; None sees all. Mistral's first: 4096.
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        names = ("rms_norm_eps", "tie_embeddings", "attention_bias", "head_norms")
        _positive(self, exclude=(*names, "head_dim", "sliding_window"))
        for name, value in (("head_dim", self.head_dim), ("sliding_window", self.sliding_window)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected 1 or more")
        if self.head_dim is None:
            _divisible(self, "hidden_size", by="num_heads")
        _divisible(self, "num_heads", by="num_kv_heads")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_heads

    @property
    def query_width(self) -> int:
        """Width of the queries of all heads."""
        return self.num_heads * self.head_size


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How a conversation becomes ids and crops."""

    # For the only image of a conversation.
    image: ImageRule = field(default_factory=AnyRes)
    # For every image of a conversation that holds several.
    multi_image: ImageRule = field(default_factory=SingleCrop)
    video: VideoRule | Native = field(default_factory=VideoRule)
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
        rules = (self.image, self.multi_image, self.video)
        if len({isinstance(rule, Native) for rule in rules}) > 1:
            raise ConfigError(
                "some image and video rules are native, others cut crops; expected one"
            )
        if self.template == "onevision_2" and not isinstance(self.video, Native):
            raise ConfigError(
                f"template onevision_2 divides a video into frames, but the video rule is "
                f"{self.video}; expected a native one, or another template"
            )
        if not all(std > 0 for std in self.image_std):
            raise ConfigError(f"image_std is {self.image_std}; expected positive numbers")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model: its three parts, and how input is prepared for it."""

    vision: VisionConfig | ConvNetConfig = field(default_factory=VisionConfig)
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
        cells, rotary = isinstance(rule, Native), isinstance(vision, VisionConfig) and vision.rotary
        if cells != rotary or self.projector.merge != (rule.side if cells else 1):
            raise ConfigError(
                f"a vision encoder with rotary {rotary} and a projector that merges "
                f"{self.projector.merge} do not fit the image rule {rule}"
            )
        if has_fast_frames(self.inputs.video) and not self.image_newline:
            raise ConfigError("slow_every without an image_newline; expected both, or neither")
        told = isinstance(self.inputs.video, Native) and self.inputs.video.frame_numbers
        if told != (isinstance(vision, VisionConfig) and vision.rotary_time):
            raise ConfigError(
                f"the video rule's frame_numbers is {told}, but the vision encoder turns by time "
                f"{not told}; expected both or neither"
            )
        video = self.inputs.video
        if self.projector.num_blocks and isinstance(video, VideoRule) and video.pool_first:
            raise ConfigError(
                "a projector with blocks reads a crop whole; its video rule must not pool first"
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
        if version < NAMED_CLASSES:
            values = _name_classes(values)
        return from_plain(cls, values, where="config", complete=version == FORMAT_VERSION)


def _name_classes(values: dict[str, Any]) -> dict[str, Any]:
    """Names the classes of vision encoder and video rule: before that version each had one."""
    named = dict(values)
    if isinstance(vision := values.get("vision"), dict):
        named["vision"] = {"rule": "VisionConfig"} | vision
    match values:
        case {"inputs": {"video": dict(video)}}:
            named["inputs"] = values["inputs"] | {"video": {"rule": "VideoRule"} | video}
        case _:
            pass
    return named


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

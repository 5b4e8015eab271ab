"""Tensor shapes and a foreign config.json -> the sizes of the three parts.

Sizes come from the tensors. A value that a config omits has the default of the code that wrote
it; one that contradicts the tensors is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from onevision.checkpoint.contents import CheckpointContents
from onevision.checkpoint.kinds import Values, value_or
from onevision.checkpoint.names import TensorNames
from onevision.config import Activation, LanguageConfig, ProjectorConfig, VisionConfig
from onevision.errors import CheckpointError

LanguageKind = Literal["llama", "mistral", "qwen2", "qwen3", "onevision_1_5"]

# Heads and picture size of known towers by (width, positions, patch size): a config without
# `vision_config` lacks them, and shapes do not show them. CLIP's have one more, the class token.
KNOWN_TOWERS = {
    (1152, 729, 14): (16, 384),
    (1152, 196, 16): (16, 224),
    (768, 196, 16): (12, 224),
    (1024, 577, 14): (16, 336),
    (1024, 257, 14): (16, 224),
    (768, 197, 16): (12, 224),
    (768, 50, 32): (12, 224),
}
HEAD_NORM = "language_model.blocks.0.attention.query_norm.weight"
# Width and blocks of SigLIP-so400m as it is released.
WHOLE_SIGLIP = (1152, 27)
HF_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
}
# Language models by `model_type`, or by the class of the reference.
KINDS: Mapping[str, LanguageKind] = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "LLaVAOneVision1_5_text": "onevision_1_5",
    "LlavaLlamaForCausalLM": "llama",
    "LlavaMistralForCausalLM": "mistral",
    "LlavaQwenForCausalLM": "qwen2",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
}


@dataclass(frozen=True, kw_only=True)
class LanguageDefaults:
    """Values that configs of one kind of language model omit."""

    max_positions: int
    sliding_window: int | None = None


DEFAULTS: Mapping[LanguageKind, LanguageDefaults] = {
    "llama": LanguageDefaults(max_positions=2048),
    "mistral": LanguageDefaults(max_positions=131072, sliding_window=4096),
    "qwen2": LanguageDefaults(max_positions=32768),
    "qwen3": LanguageDefaults(max_positions=32768),
    "onevision_1_5": LanguageDefaults(max_positions=262144),
}


@dataclass(frozen=True, kw_only=True)
class ForeignCheckpoint:
    """A checkpoint of another project, whose tensors are found by our names."""

    contents: CheckpointContents
    names: TensorNames

    @property
    def values(self) -> Values:
        """Its config.json."""
        return self.contents.values

    @property
    def text(self) -> Values:
        """The part of config.json that describes the language model."""
        return self.values.get("text_config", self.values)

    @property
    def kind(self) -> LanguageKind:
        """The kind of its language model. Raises CheckpointError for an unknown one."""
        stated = self.text.get("model_type")  # in the reference's configs it is "llava"
        if "text_config" not in self.values:
            stated = next(iter(self.values.get("architectures") or ()), None)
        if stated in KINDS:
            return KINDS[stated]
        if stated is not None:
            raise CheckpointError(
                f"config.json: the language model is {stated!r}; supported are {', '.join(KINDS)}"
            )
        return "qwen2" if self.has("language_model.blocks.0.attention.query.bias") else "llama"

    def has(self, ours: str) -> bool:
        """Whether the checkpoint has a tensor."""
        return self.names.translate(ours) in self.contents.tensors

    def shape(self, ours: str) -> tuple[int, ...]:
        """Returns a tensor's shape. Raises CheckpointError if it is missing."""
        key = self.names.translate(ours)
        if key not in self.contents.tensors:
            raise CheckpointError(f"tensor {key} is missing; the checkpoint is incomplete")
        return self.contents.tensors[key].shape

    def count(self, pattern: str) -> int:
        """Counts the tensors named by `pattern` with 0, 1, 2, ... in place of "{}"."""
        return next(n for n in range(1000) if not self.has(pattern.format(n)))


def read_vision(source: ForeignCheckpoint) -> VisionConfig:
    """Reads the sizes of the vision encoder. Raises CheckpointError."""
    width, _, patch_size, _ = source.shape("vision_encoder.patch_embedding.weight")
    positions = source.shape("vision_encoder.position_embedding.weight")[0]
    class_token = source.has("vision_encoder.begin.token")
    stated: Values = source.values.get("vision_config", {})
    num_heads, image_size = _tower(
        source.values, width=width, positions=positions, patch=patch_size
    )
    num_blocks = source.count("vision_encoder.blocks.{}.mlp.up.weight")
    num_layers = _layers_that_run(source, num_blocks, class_token=class_token)
    compare_sizes(
        {**stated, "mm_hidden_size": source.values.get("mm_hidden_size", width)},
        {"hidden_size": width, "num_hidden_layers": num_blocks, "mm_hidden_size": width},
    )
    activation = value_or(
        stated, "hidden_act", "quick_gelu" if class_token else "gelu_pytorch_tanh"
    )
    if activation not in HF_ACTIVATIONS:
        raise CheckpointError(
            f"config.json: vision_config.hidden_act is {activation!r}; "
            f"supported are {', '.join(HF_ACTIVATIONS)}"
        )
    return VisionConfig(
        hidden_size=width,
        intermediate_size=source.shape("vision_encoder.blocks.0.mlp.up.weight")[0],
        num_layers=num_layers,
        num_heads=num_heads,
        image_size=image_size,
        patch_size=patch_size,
        layer_norm_eps=value_or(stated, "layer_norm_eps", 1e-5 if class_token else 1e-6),
        activation=HF_ACTIVATIONS[activation],
        class_token=class_token,
        num_spare_layers=num_blocks - num_layers,
    )


def read_projector(source: ForeignCheckpoint) -> ProjectorConfig:
    """Reads the sizes of the projector. Raises CheckpointError."""
    projector = source.names.projector
    num_layers = sum(f"{name}.weight" in source.contents.tensors for name in projector)
    if not num_layers:
        raise CheckpointError(f"tensor {projector[0]}.weight is missing; there is no projector")
    stated = source.values.get("mm_projector_type")
    usual = {"linear"} if num_layers == 1 else set[str]()
    usual.add(f"mlp{num_layers}x_gelu")
    if stated is not None and stated not in usual:
        raise CheckpointError(
            f"config.json: mm_projector_type is {stated!r}, the tensors are those of "
            f"{' or '.join(sorted(usual))}; supported are linear and mlpNx_gelu"
        )
    return ProjectorConfig(num_layers=num_layers)


def read_language(source: ForeignCheckpoint) -> LanguageConfig:
    """Reads the sizes of the language model. Raises CheckpointError."""
    text, defaults = source.text, DEFAULTS[source.kind]
    num_heads = value_or(text, "num_attention_heads", 32)
    vocab_size, width = source.shape("language_model.embedding.weight")
    head_dim, head_size = text.get("head_dim"), width // num_heads
    if source.has(HEAD_NORM):
        (head_dim,) = source.shape(HEAD_NORM)
    if head_dim not in (None, head_size):
        head_size = head_dim
    kv_width = source.shape("language_model.blocks.0.attention.key.weight")[0]
    theta, factor = _rope(text)
    tied, has_head = _head(source)
    positions = value_or(source.values, "tokenizer_model_max_length", defaults.max_positions)
    language = LanguageConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=source.shape("language_model.blocks.0.mlp.up.weight")[0],
        num_layers=source.count("language_model.blocks.{}.mlp.up.weight"),
        num_heads=num_heads,
        num_kv_heads=kv_width // head_size,
        max_positions=round(value_or(text, "max_position_embeddings", positions) * factor),
        rope_theta=theta,
        rope_factor=factor,
        rms_norm_eps=value_or(text, "rms_norm_eps", 1e-6),
        tie_embeddings=tied and not has_head,
        attention_bias=source.has("language_model.blocks.0.attention.query.bias"),
        head_dim=None if head_size * num_heads == width else head_size,
        head_norms=source.has(HEAD_NORM),
        sliding_window=_window(text, source.kind, defaults),
    )
    compare_sizes(
        text,
        {
            "hidden_size": language.hidden_size,
            "intermediate_size": language.intermediate_size,
            "num_hidden_layers": language.num_layers,
            "num_key_value_heads": language.num_kv_heads,
            "head_dim": language.head_size,
            "vocab_size": language.vocab_size,
        },
    )
    return language


def _tower(values: Values, *, width: int, positions: int, patch: int) -> tuple[int, int]:
    """Returns the attention heads and the picture size of the vision encoder."""
    config: Values = values.get("vision_config", {})
    heads, image_size = config.get("num_attention_heads"), config.get("image_size")
    if heads is None or image_size is None:  # released configs omit what their class defaults to
        if (width, positions, patch) not in KNOWN_TOWERS:
            raise CheckpointError(
                f"config.json does not describe its vision encoder of width {width} with "
                f"{positions} positions; add a `vision_config` with num_attention_heads and "
                "image_size"
            )
        known_heads, known_size = KNOWN_TOWERS[width, positions, patch]
        return heads or known_heads, image_size or known_size
    return heads, image_size


def _layers_that_run(source: ForeignCheckpoint, num_blocks: int, *, class_token: bool) -> int:
    """Returns how many of the blocks the features have passed through.

    FIDELITY: the reference's SigLIP ignores `mm_vision_select_layer` (-2 in every config): its
    checkpoints hold only blocks that run. It removes the last block of a whole SigLIP-so400m.
    """
    key, default = "mm_vision_select_layer", -2
    if source.names.layout == "llava-hf":
        key = "vision_feature_layer"
        default = -1 if source.values.get("model_type") == "llava_onevision" else -2
    elif not class_token:
        width = source.shape("vision_encoder.patch_embedding.weight")[0]
        return num_blocks - ((width, num_blocks) == WHOLE_SIGLIP)
    layer = source.values.get(key, default)
    runs = 0
    if isinstance(layer, int):  # transformers also allows a list
        runs = layer if layer > 0 else num_blocks + 1 + layer
    if not 1 <= runs <= num_blocks:
        raise CheckpointError(
            f"config.json: {key} is {layer!r}; expected one layer of {num_blocks}, such as -2"
        )
    return runs


def _rope(text: Values) -> tuple[float, float]:
    """Returns the base of rotary positions and the factor that divides positions."""
    rope: Values = text.get("rope_parameters") or {}
    scaling: Values = text.get("rope_scaling") or rope
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear"):
        raise CheckpointError(
            f"config.json: rope_type is {kind!r}; supported are 'default' and 'linear'"
        )
    factor = float(scaling.get("factor", 1.0)) if kind == "linear" else 1.0
    return float(rope.get("rope_theta", text.get("rope_theta", 1e4))), factor


def _window(text: Values, kind: LanguageKind, defaults: LanguageDefaults) -> int | None:
    """Returns the sliding window; only Mistral's models apply the one in their config."""
    return text.get("sliding_window", defaults.sliding_window) if kind == "mistral" else None


def _head(source: ForeignCheckpoint) -> tuple[bool, bool]:
    """Returns whether the output head is tied to the embedding, and whether it is stored."""
    values, has_head = source.values, source.has("language_model.head.weight")
    tied = bool(source.text.get("tie_word_embeddings") or values.get("tie_word_embeddings"))
    if not tied and not has_head:
        raise CheckpointError(
            "the output head (lm_head.weight) is missing, and the config does not tie it to the "
            "embedding; set tie_word_embeddings if it should"
        )
    return tied, has_head


def compare_sizes(stated: Values, sizes: Mapping[str, int]) -> None:
    """Raises CheckpointError if a config's sizes differ from those of the tensors."""
    wrong = {
        k: (stated[k], size)
        for k, size in sizes.items()
        if stated.get(k) is not None and stated[k] != size
    }
    if wrong:
        what = "; ".join(f"{k} is {found}, tensors say {is_}" for k, (found, is_) in wrong.items())
        raise CheckpointError(f"config.json contradicts the tensors: {what}")

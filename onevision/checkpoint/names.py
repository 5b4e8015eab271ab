"""Our tensor names -> those of every layout in circulation; the tensors are the same."""

from dataclasses import dataclass, replace

from onevision.errors import CheckpointError
from onevision.plural import counted

# Suffixes are shared by all foreign layouts; pairs are (ours, theirs), tried in this order.
VISION_SUFFIXES = (
    ("begin.token", "embeddings.class_embedding"),
    ("begin.norm.", "pre_layrnorm."),  # the spelling of every CLIP checkpoint
    ("patch_embedding.", "embeddings.patch_embedding."),
    ("position_embedding.", "embeddings.position_embedding."),
    ("post_norm.", "post_layernorm."),
    ("blocks.", "encoder.layers."),
    (".attention_norm.", ".layer_norm1."),
    (".mlp_norm.", ".layer_norm2."),
    (".attention.query.", ".self_attn.q_proj."),
    (".attention.key.", ".self_attn.k_proj."),
    (".attention.value.", ".self_attn.v_proj."),
    (".attention.output.", ".self_attn.out_proj."),
    (".mlp.up.", ".mlp.fc1."),
    (".mlp.down.", ".mlp.fc2."),
)
# RICE-ViT's names in OneVision-1.5. Queries, keys and values are thirds of one tensor.
RICE_SUFFIXES = (
    ("token_angles", "class_pos_emb"),
    ("token", "class_embedding"),
    ("norm.", "pre_layernorm."),
    ("patch_embedding.", "patch_embed.proj."),
    (".attention_norm.", ".norm1."),
    (".mlp_norm.", ".norm2."),
    (".attention.query.", ".attn.qkv."),
    (".attention.key.", ".attn.qkv."),
    (".attention.value.", ".attn.qkv."),
    (".attention.output.", ".attn.proj."),
    (".mlp.up.", ".mlp.fc1."),
    (".mlp.down.", ".mlp.fc2."),
)
# OneVision-Encoder's in OneVision-2, which joins them too.
ENCODER_SUFFIXES = (
    ("norm.", "layernorm_pre."),
    ("patch_embedding.", "embeddings.patch_embedding."),
    ("blocks.", "encoder.layers."),
    (".attention_norm.", ".layer_norm1."),
    (".mlp_norm.", ".layer_norm2."),
    (".attention.query.", ".self_attn.qkv."),
    (".attention.key.", ".self_attn.qkv."),
    (".attention.value.", ".self_attn.qkv."),
    (".attention.output.", ".self_attn.proj."),
    (".mlp.up.", ".mlp.fc1."),
    (".mlp.down.", ".mlp.fc2."),
)
JOINED = (RICE_SUFFIXES, ENCODER_SUFFIXES)
THIRDS = (".attention.query.", ".attention.key.", ".attention.value.")
LANGUAGE_SUFFIXES = (
    ("embedding.", "embed_tokens."),
    ("blocks.", "layers."),
    (".attention_norm.", ".input_layernorm."),
    (".mlp_norm.", ".post_attention_layernorm."),
    (".attention.query.", ".self_attn.q_proj."),
    (".attention.key.", ".self_attn.k_proj."),
    (".attention.value.", ".self_attn.v_proj."),
    (".attention.output.", ".self_attn.o_proj."),
    (".attention.query_norm.", ".self_attn.q_norm."),
    (".attention.key_norm.", ".self_attn.k_norm."),
    (".mlp.gate.", ".mlp.gate_proj."),
    (".mlp.up.", ".mlp.up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
)
# Buffers in old checkpoints that are computed instead.
IGNORED_SUFFIXES = (".inv_freq", ".position_ids")


@dataclass(frozen=True, kw_only=True)
class TensorNames:
    """How one layout names its tensors: the prefix of each part."""

    layout: str
    vision: str
    # One for each linear layer, in order.
    projector: tuple[str, ...]
    newline: str
    language: str
    head: str
    vision_suffixes: tuple[tuple[str, str], ...] = VISION_SUFFIXES
    # The norm before a projector that merges patches.
    projector_norm: str = ""

    def third(self, ours: str) -> int | None:
        """Returns which third of the layout's tensor ours is, from the top; None if it is whole."""
        if self.vision_suffixes not in JOINED or not ours.startswith("vision_encoder."):
            return None
        return next((n for n, name in enumerate(THIRDS) if name in ours), None)

    def translate(self, ours: str) -> str:
        """Returns the layout's name for one of our tensors.

        A projector's blocks, which no other layout has, keep our name below its projector: adapters
        are stored by such names.
        """
        part, _, rest = ours.partition(".")
        if ours in ("image_newline", "faster_token"):
            return self.newline.replace("image_newline", ours)
        if part == "vision_encoder":
            return self.vision + _replace(rest, self.vision_suffixes)
        if part == "projector":
            return self._projector_name(rest)
        if rest == "head.weight":
            return self.head
        return self.language + _replace(rest, LANGUAGE_SUFFIXES)

    def _projector_name(self, rest: str) -> str:
        if rest.startswith("norm."):
            return self.projector_norm + rest.removeprefix("norm")
        if rest.startswith("mixer."):
            return f"{self.projector[0].rpartition('.')[0]}.{rest}"
        _, index, kind = rest.split(".")
        return f"{self.projector[int(index)]}.{kind}"


MAX_PROJECTOR_LAYERS = 8
LINEAR = tuple(f"multi_modal_projector.linear_{n}" for n in range(1, MAX_PROJECTOR_LAYERS + 1))
# The reference implementation, from LLaVA v1 to OneVision. Its projector is an nn.Sequential with a
# GELU at every odd index.
LMMS_LAB = TensorNames(
    layout="lmms-lab",
    vision="model.vision_tower.vision_tower.vision_model.",
    projector=tuple(f"model.mm_projector.{2 * n}" for n in range(MAX_PROJECTOR_LAYERS)),
    newline="model.image_newline",
    language="model.",
    head="lm_head.weight",
)
# The same with the projector of LLaVA v1, a single layer.
LMMS_LAB_LINEAR = replace(LMMS_LAB, projector=("model.mm_projector",))
# llava-hf, as converted in 2024 and as transformers 5.x writes what it loaded.
LLAVA_HF = TensorNames(
    layout="llava-hf",
    vision="vision_tower.vision_model.",
    projector=LINEAR,
    newline="image_newline",
    language="language_model.model.",
    head="language_model.lm_head.weight",
)
# Module names in transformers 4.52 to 5.5, and in 5.6 and later.
LLAVA_HF_4_52 = TensorNames(
    layout="llava-hf",
    vision="model.vision_tower.vision_model.",
    projector=tuple(f"model.{name}" for name in LINEAR),
    newline="model.image_newline",
    language="model.language_model.",
    head="lm_head.weight",
)
LLAVA_HF_5_6 = replace(LLAVA_HF_4_52, vision="model.vision_tower.")
# As transformers 5.x saves a model that was built from a config.
LLAVA_HF_BUILT = replace(LLAVA_HF, vision="vision_tower.")
# OneVision-1.5, as its modules are named, and as transformers 4.5x saves it.
ONEVISION_1_5 = TensorNames(
    layout="onevision-1.5",
    vision="model.visual.",
    projector=("model.visual.merger.mlp.0", "model.visual.merger.mlp.2"),
    newline="model.image_newline",
    language="model.language_model.",
    head="lm_head.weight",
    vision_suffixes=RICE_SUFFIXES,
    projector_norm="model.visual.merger.ln_q",
)
ONEVISION_1_5_SAVED = replace(
    ONEVISION_1_5,
    vision="visual.",
    projector=("visual.merger.mlp.0", "visual.merger.mlp.2"),
    language="model.",
    projector_norm="visual.merger.ln_q",
)
# OneVision-2, as its modules are named.
ONEVISION_2 = replace(ONEVISION_1_5, layout="onevision-2", vision_suffixes=ENCODER_SUFFIXES)
# The layouts of models that read pictures at native resolution.
NATIVE_LAYOUTS = (ONEVISION_1_5.layout, ONEVISION_2.layout)
# A language model or a tower on its own: the first has the names that it has inside LLaVA, those of
# the second begin at its vision model.
ALONE = replace(LMMS_LAB, layout="released alone", vision="vision_model.")
FOREIGN = (
    *(LMMS_LAB_LINEAR, LMMS_LAB, LLAVA_HF, LLAVA_HF_4_52, LLAVA_HF_5_6, LLAVA_HF_BUILT),
    *(ONEVISION_1_5, ONEVISION_1_5_SAVED, ONEVISION_2),
)
OURS = "onevision"
# How the names of our vision encoder's tensors begin, of whichever kind it is.
OUR_VISION = "vision_encoder."
LAYOUTS = (OURS, "lmms-lab", "llava-hf", *NATIVE_LAYOUTS)
# What a checkpoint of the reference has even if its tower is stored elsewhere.
PROJECTOR_PROBES = ("model.mm_projector.weight", "model.mm_projector.0.weight")
# A tensor of ours that every checkpoint of another project has; its name differs in every layout.
PROBE = "vision_encoder.patch_embedding.weight"


def detect_names(keys: set[str], *, where: str) -> TensorNames | None:
    """Returns the naming that fits these keys; None is our own. Raises CheckpointError."""
    if any(key.startswith(OUR_VISION) for key in keys):
        return None
    for names in FOREIGN:
        linear = names is LMMS_LAB_LINEAR
        if names.translate(PROBE) in keys and (
            not linear or f"{names.projector[0]}.weight" in keys
        ):
            return names
    has_projector = any(key.startswith("model.mm_projector.") for key in keys)
    if ALONE.translate("language_model.norm.weight") in keys and not has_projector:
        raise CheckpointError(
            f"{where}: a language model alone, without a vision encoder; `ask`, `chat`, `serve` "
            "and `curate` take it for text, and `train` as --language-model"
        )
    raise CheckpointError(
        f"{where}: no layout fits its {counted(len(keys), 'tensor')} "
        f"(for instance {min(keys, default='-')}); "
        f"expected one of {', '.join(LAYOUTS)}, vision encoder included"
    )


def foreign_name(ours: str, names: TensorNames | None) -> str:
    """Returns the name of one of our tensors in a layout; None is our own."""
    return ours if names is None else names.translate(ours)


def _replace(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in pairs:
        if ours.startswith("."):
            name = name.replace(ours, theirs)
        elif name.startswith(ours):
            name = theirs + name.removeprefix(ours)
    return name

"""`onevision models`: the known architectures."""

from onevision.anyres import max_image_tokens, plan_video
from onevision.known_models import ARCHITECTURES, HUB_IDS


def models() -> None:
    """List the known models: sizes, tokens, context, and what to load."""
    for name, config in ARCHITECTURES.items():
        vision, language, rules = config.vision, config.language, config.inputs
        video = plan_video(num_frames=32, rule=rules.video).num_tokens
        several = max_image_tokens(rules.multi_image)
        print(
            f"{name:<5} vision {vision.num_layers} x {vision.hidden_size} at "
            f"{vision.image_size} px, language {language.num_layers} x {language.hidden_size}, "
            f"context {language.max_positions:,}\n"
            f"      image up to {max_image_tokens(rules.image):,} tokens, "
            f"several images {several} each, 32 frames {video:,}\n"
            f"      load({HUB_IDS.get(name, name)!r})"
        )

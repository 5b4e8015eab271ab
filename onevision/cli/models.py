"""`onevision models`: list the known architectures."""

from onevision.anyres import plan_video
from onevision.known_models import ARCHITECTURES, HUB_IDS, LICENCES, max_image_tokens


def models() -> None:
    """List the known models: sizes, tokens, context, licence of the base model, how to load."""
    for name, config in ARCHITECTURES.items():
        vision, language, rules = config.vision, config.language, config.inputs
        video = plan_video(num_frames=32, rule=rules.video).num_tokens
        several = max_image_tokens(rules.multi_image)
        tower = "CLIP" if vision.class_token else "SigLIP"
        home = HUB_IDS.get(name)
        place = (
            f"load({home or name!r})" if home or name == "tiny" else "no complete weights released"
        )
        print(
            f"{name}\n"
            f"      {tower} {vision.num_layers} x {vision.hidden_size} at {vision.image_size} px, "
            f"language {language.num_layers} x {language.hidden_size}, "
            f"context {language.max_positions:,}, template {rules.template}\n"
            f"      image up to {max_image_tokens(rules.image):,} tokens, "
            f"several images {several} each, 32 frames {video:,}\n"
            f"      {LICENCES[name]}; {place}"
        )

"""transformers' LlavaOnevision at the released 0.5B shape, driven phase by phase."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onevision.checkpoint.hub import BUNDLED
from onevision.conversation import Conversation, Image, Message, Text
from onevision.generate.answer import Model
from onevision.inputs.chat import MediaSlot
from onevision.inputs.processor import Outline, Processor
from onevision.known_models import ONEVISION_0_5B

IMAGE_ID = 151646


def write_checkpoint(directory: Path) -> None:
    """Write random bf16 weights of the 0.5B shape as transformers does, unless they are there."""
    import transformers

    if (directory / "config.json").exists():
        return
    config = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 26,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "vocab_size": 152000,
            "rope_theta": 1e6,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
        },
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = transformers.LlavaOnevisionForConditionalGeneration(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer = (BUNDLED["tiny"] / "tokenizer.json").read_bytes()
    (directory / "tokenizer.json").write_bytes(tokenizer)


class Peer:
    """The model of a checkpoint in transformers, with its sdpa attention, in our type."""

    def __init__(self, directory: str | Path, dtype: torch.dtype) -> None:
        import transformers
        from transformers.models.llava_onevision import (
            image_processing_pil_llava_onevision as images,
        )

        self.dtype = dtype
        self.model = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
            directory, dtype=dtype, attn_implementation="sdpa"
        ).eval()
        self.processor = images.LlavaOnevisionImageProcessorPil(
            image_mean=[0.5] * 3, image_std=[0.5] * 3
        )
        self.cache: Any = None
        self.last: Tensor | None = None

    def pixels(self, source: Any) -> Tensor:
        """Return the crops [N, 3, H, W] of a Pillow image."""
        return self.processor(source, return_tensors="pt")["pixel_values"][0]

    def features(self, pixels: Tensor) -> Tensor:
        """Return projected patches [N, P, D] of crops [N, 3, H, W]."""
        inner = self.model.model
        hidden = inner.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        return inner.multi_modal_projector(hidden)

    def prefill(self, x: Tensor) -> Tensor:
        """Read embeddings [1, S, D]; return the logits [vocab] after them."""
        out = self.model.model.language_model(inputs_embeds=x, use_cache=True)
        self.cache = out.past_key_values
        logits = self.model.lm_head(out.last_hidden_state[:, -1])
        self.last = logits.argmax(-1, keepdim=True)
        return logits[0]

    def decode(self, steps: int) -> None:
        """Go on greedily for so many tokens."""
        for _ in range(steps):
            out = self.model.model.language_model(
                input_ids=self.last, past_key_values=self.cache, use_cache=True
            )
            self.last = self.model.lm_head(out.last_hidden_state[:, -1]).argmax(-1, keepdim=True)

    def answer(self, model: Model, image: Image, *, tokens: int) -> None:
        """Answer about one image, from pixels to text."""
        self.answer_talk(model, Conversation([Message("user", [image, Text("?")])]), tokens=tokens)

    def answer_talk(self, model: Model, talk: Conversation, *, tokens: int) -> None:
        """Answer a conversation about at most one image, with its own pixels and greedy search."""
        arguments: dict[str, Any] = {}
        if talk.media:
            source = talk.media[0].source
            ready = self.processor(source, return_tensors="pt")
            arguments = {
                "pixel_values": ready["pixel_values"].to(self.dtype),
                "image_sizes": ready["image_sizes"],
                "batch_num_images": torch.tensor([1]),
            }
        plan = Processor(ONEVISION_0_5B.inputs, model.processor.tokenizer)
        outline = plan.outline(talk)
        ids = prompt_ids(outline)
        with torch.inference_mode():
            self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **arguments,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
            )


def prompt_ids(outline: Outline) -> Tensor:
    """Return the ids [1, S] of a prompt, its visual tokens as transformers' placeholders."""
    layouts, ids = iter(outline.layouts), list[int]()
    for piece in outline.pieces:
        is_slot = isinstance(piece, MediaSlot)
        ids += [IMAGE_ID] * next(layouts).num_tokens if is_slot else list(piece.ids)
    return torch.tensor([ids])

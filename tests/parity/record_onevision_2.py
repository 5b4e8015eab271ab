"""The official code of OneVision-2 -> tests/golden/onevision_2.json.

It needs the folder `transformers_impl/` of the official repository (LLaVA-OneVision-2, at
`2c3c25e`) and transformers 5.7 or later without torchvision; neither the folder nor anything it
downloads is part of this project. Random weights and drawn pictures make the numbers:

    PYTHONPATH=.:REPOSITORY/transformers_impl python -m tests.parity.record_onevision_2
"""

import json
import math
import tempfile
from pathlib import Path

import torch
import transformers
from llavaonevision2 import (  # pyrefly: ignore[missing-import]
    modeling_llava_onevision2 as modelling,
)
from llavaonevision2 import processing_llava_onevision2 as processing
from llavaonevision2 import video_processing_llava_onevision2 as videos
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from tests.native import MARKS, NATIVE_2, native_tokenizer, with_merge, write_native
from tests.parity.onevision_1_5 import CASES, COUNTED, NEW_TOKENS, QUESTION, draw, sample
from tests.parity.onevision_2 import CLIPS, NINE, NUMBERS, RATE, SAMPLED, WINDOWED

OUTPUT = Path(__file__).parents[1] / "golden" / "onevision_2.json"
START, END, PAD, _ = MARKS


class Official:
    """The official model and processor, with our tokenizer's ids."""

    def __init__(self, directory: Path) -> None:
        self.model = modelling.LlavaOnevision2ForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self.tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(directory / "tokenizer.json")
        )
        values = json.loads((directory / "tokenizer_config.json").read_text())
        self.tokenizer.chat_template = values["chat_template"]
        images = transformers.Qwen2VLImageProcessorPil.from_pretrained(directory)
        merge = images.merge_size
        self.processor = processing.Llava_Onevision2Processor(
            images,
            self.tokenizer,
            videos.LlavaOnevision2VideoProcessor(
                image_processor=images, patch_size=14, spatial_merge_size=merge
            ),
        )

    def prompt(self, *kinds: str) -> str:
        """Renders a question about some images and videos."""
        content = [*({"type": kind} for kind in kinds), {"type": "text", "text": QUESTION}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )

    def prepare(self, text: str, **media: object) -> dict[str, torch.Tensor]:
        """Runs the official processor. The toy tokenizer's last ids are moved to where ours are."""
        made = dict(self.processor(text=[text], **media))
        made["input_ids"] = self.renumber(made["input_ids"])
        return made

    def renumber(self, ids: torch.Tensor) -> torch.Tensor:
        """Replaces the ids of the marks, which transformers numbers without a gap."""
        ours, found = native_tokenizer(), ids.clone()
        for mark in MARKS:
            found[ids == self.tokenizer.convert_tokens_to_ids(mark)] = ours.id_of(mark)
        return found


def record() -> None:
    """Writes the numbers of every case."""
    with tempfile.TemporaryDirectory() as place:
        two = Official(write_native(Path(place) / "2", layout="onevision-2"))
        three = Official(
            write_native(Path(place) / "3", layout="onevision-2", config=with_merge(NATIVE_2, 3))
        )
    values = {
        "transformers": transformers.__version__,
        "cases": {name: record_case(two, *case) for name, case in CASES.items()},
        "nine": record_case(three, *NINE),
        "numbered": record_numbered(two),
        "windows": record_windows(two),
        "mixed": {name: record_mixed(two, order) for name, order in CLIPS.items()},
        "samplers": record_samplers(),
        "counts": {str(merge): count_tokens(merge) for merge in (2, 3)},
    }
    OUTPUT.write_text(json.dumps(values) + "\n", encoding="utf-8")


def record_case(official: Official, kind: str, sizes: list[tuple[int, int]]) -> dict[str, object]:
    """Runs pictures of some sizes, or a video of as many frames, and one question."""
    pictures = draw(sizes)
    media = {"videos": [pictures]} if kind == "video" else {"images": pictures}
    kinds = [kind] if kind == "video" else [kind] * len(pictures)
    return record_inputs(official, official.prepare(official.prompt(*kinds), **media))


def record_numbered(official: Official) -> dict[str, object]:
    """Runs a video whose frames have numbers and times of their own, as those of a file do."""
    pictures = draw([(200, 120)] * len(NUMBERS))
    made = official.processor.video_processor(videos=[pictures])
    grid, merge = made["video_grid_thw"], official.processor.spatial_merge_size
    seconds = [
        videos.time_str_to_seconds(videos.format_timestamp(number / RATE)) for number in NUMBERS
    ]
    block = processing._expand_video_block_for_frames(int(grid[0, 1:].prod()) // merge**2, seconds)
    text = official.prompt("video").replace(f"{START}<|video_pad|>{END}", block)
    ids = official.renumber(official.tokenizer(text, return_tensors="pt")["input_ids"])
    return record_inputs(
        official,
        {
            "input_ids": ids,
            "pixel_values": made["pixel_values_videos"],
            "image_grid_thw": torch.tensor([[1, *grid[0, 1:].tolist()]] * len(NUMBERS)),
            "patch_positions": videos.build_patch_positions(
                grid, merge, frame_indices=[torch.tensor(NUMBERS)]
            ),
        },
    )


@torch.inference_mode()
def record_inputs(official: Official, made: dict[str, torch.Tensor]) -> dict[str, object]:
    """Runs the model on what a processor made."""
    tower = official.model.model.visual
    arguments = {
        "grid_thw": made["image_grid_thw"],
        "patch_positions": made["patch_positions"],
        "return_dict": True,
    }
    features = tower(made["pixel_values"], skip_merger=True, **arguments).last_hidden_state[0]
    tokens = tower(made["pixel_values"], **arguments).last_hidden_state
    logits = official.model(**made).logits[0]
    answer = official.model.generate(
        **made, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return {
        "ids": made["input_ids"][0].tolist(),
        "visual_tokens": tokens.numel() // NATIVE_2.language.hidden_size,
        "patches": sample(made["pixel_values"]),
        "features": sample(features),
        "tokens": sample(tokens),
        "logits": sample(logits),
        "answer": answer[0, made["input_ids"].shape[1] :].tolist(),
    }


@torch.inference_mode()
def record_windows(official: Official) -> list[float]:
    """Runs the tower on frames that share a row of the grid, as training packs do."""
    made = official.processor.video_processor(videos=[draw(WINDOWED)])
    features = official.model.model.visual(
        made["pixel_values_videos"],
        grid_thw=made["video_grid_thw"],
        patch_positions=made["patch_positions"],
        skip_merger=True,
        return_dict=True,
    )
    return sample(features.last_hidden_state[0])


def record_mixed(official: Official, order: tuple[str, ...]) -> list[int]:
    """Returns the placeholders between the vision marks of a prompt with an image and a video.

    In a right one they are those of the image, 77, and of the frames, 28 each, in their order.
    """
    ours = native_tokenizer()
    ids = official.prepare(
        official.prompt(*order), images=draw([(300, 200)]), videos=[draw([(200, 120)] * 2)]
    )["input_ids"][0].tolist()
    starts = [place for place, token in enumerate(ids) if token == ours.id_of(START)]
    ends = [place for place, token in enumerate(ids) if token == ours.id_of(END)]
    return [end - start - 1 for start, end in zip(starts, ends, strict=True)]


def record_samplers() -> int:
    """Returns a checksum of the frames that the processor chooses of many videos."""
    total = 0
    for count, rate, most in SAMPLED:
        wanted = videos.choose_target_frames(count / rate, most)
        for place, index in enumerate(videos.select_frame_indices(count, wanted), start=1):
            total += place * index
    return total


def count_tokens(merge: int) -> list[int]:
    """Returns two checksums of the tokens of many sizes."""
    size, rule = 14 * merge, with_merge(NATIVE_2, merge).inputs.image
    bounds = (rule.min_pixels, rule.max_pixels)
    counts = [math.prod(smart_resize(h, w, size, *bounds)) // size**2 for w, h in COUNTED]
    return [sum(counts), sum(n * count for n, count in enumerate(counts))]


if __name__ == "__main__":
    record()

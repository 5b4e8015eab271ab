"""The official code of OneVision-1.5 -> tests/golden/onevision_1_5.json.

It needs transformers 4.53 and the folder `ds/` of the official repository, neither of which is part
of this project; random weights and drawn pictures make the numbers, so nothing is downloaded:

    PYTHONPATH=.:TRANSFORMERS_4_53:REPOSITORY/ds python -m tests.parity.record_onevision_1_5
"""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from llavaonevision1_5.modeling_llavaonevision1_5 import (  # pyrefly: ignore[missing-import]
    LLaVAOneVision1_5_ForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from onevision.inputs.tokenizer import IM_END, IM_START
from tests.native import NATIVE, RULE, native_tokenizer, write_native
from tests.parity.onevision_1_5 import CASES, COUNTED, NEW_TOKENS, QUESTION, draw, sample

OUTPUT = Path(__file__).parents[1] / "golden" / "onevision_1_5.json"


def record() -> None:
    """Writes the numbers of every case."""
    with tempfile.TemporaryDirectory() as place:
        directory = write_native(Path(place))
        model = LLaVAOneVision1_5_ForConditionalGeneration.from_pretrained(
            directory, torch_dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        processor = transformers.Qwen2VLImageProcessor.from_pretrained(directory)
    cases = {name: record_case(model, processor, *case) for name, case in CASES.items()}
    counts = [math.prod(smart_resize(h, w, 28, *BOUNDS)) // 28**2 for w, h in COUNTED]
    values = {
        "transformers": transformers.__version__,
        "cases": cases,
        "counts_sum": sum(counts),
        "counts_weighted": sum(n * count for n, count in enumerate(counts)),
    }
    OUTPUT.write_text(json.dumps(values) + "\n", encoding="utf-8")


BOUNDS = (RULE.min_pixels, RULE.max_pixels)


@torch.inference_mode()
def record_case(model, processor, kind: str, sizes: list[tuple[int, int]]) -> dict[str, object]:
    """Runs pictures of some sizes, or a video of as many frames, and one question."""
    pictures = draw(sizes)
    rule = NATIVE.inputs.video if kind == "video" else RULE
    made = [
        processor(images=[one], min_pixels=rule.min_pixels, max_pixels=rule.max_pixels)
        for one in pictures
    ]
    pixels = torch.tensor(np.concatenate([one["pixel_values"] for one in made]))
    grids = torch.tensor(np.concatenate([one["image_grid_thw"] for one in made]))
    if kind == "video":
        grids = torch.tensor([[len(pictures), *grids[0, 1:].tolist()]])
    tokenizer = native_tokenizer()
    pad = 4103 if kind == "video" else 4102
    media = [4100, 0, 4101]  # vision start, pads, vision end
    start, end, newline = tokenizer.id_of(IM_START), tokenizer.id_of(IM_END), "\n"

    def words(text: str) -> list[int]:
        return tokenizer.encode(text, continues=True).ids

    ids = [start, *words("system\nYou are a helpful assistant."), end, *words(newline), start]
    ids += words("user\n")
    for grid in grids:
        ids += [media[0], *[pad] * (int(grid.prod()) // 4), media[2]]
    ids += [*words(QUESTION), end, *words(newline), start, *words("assistant\n")]
    input_ids = torch.tensor([ids])
    # One picture or frame at a time, since the file misplaces patches of the second and all later
    # ones: `shifts` shows it.
    tower, alone = model.model.visual, [one.unsqueeze(0) for one in grids for _ in range(one[0])]
    alone = [torch.cat([torch.ones(1, 1).long(), one[:, 1:]], dim=1) for one in alone]
    parts = list(zip(pixels.split([int(one.prod()) for one in alone]), alone, strict=True))
    tokens = torch.cat([tower(part, grid_thw=one) for part, one in parts])
    right = [tower(part, grid_thw=one, is_verifying=True) for part, one in parts]
    together = tower(pixels, grid_thw=grids, is_verifying=True)
    embedded = model.get_input_embeddings()(input_ids)
    embedded = embedded.masked_scatter((input_ids == pad)[..., None], tokens)
    arguments = {"inputs_embeds": embedded, "attention_mask": torch.ones_like(input_ids)}
    logits = model(**arguments).logits[0]
    answer = model.generate(
        **arguments, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return {
        "prompt_tokens": len(ids),
        "visual_tokens": len(tokens),
        "patches": sample(pixels),
        "features": sample(torch.cat(right)),
        "shifts": shifts(together, right),
        "tokens": sample(tokens),
        "logits": sample(logits),
        "answer": answer[0].tolist(),  # from embeddings, new tokens alone are returned
    }


def shifts(together: torch.Tensor, right: list[torch.Tensor]) -> list[int]:
    """Returns by how many places features [N, C] of each picture come too late.

    `right` has those of every picture encoded alone, `together` those of all in one call.
    """
    found = []
    for own, expected in zip(together.split([len(one) for one in right]), right, strict=True):
        places = range(len(right))
        errors = [(own[n:] - expected[: len(own) - n]).abs().max() for n in places]
        assert min(errors) < 1e-4, "no shift explains the features"
        found.append(errors.index(min(errors)))
    return found


if __name__ == "__main__":
    record()

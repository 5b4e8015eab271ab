"""Two ways to take a training step, which benchmarks/train.py compares: ours, and the plain one."""

import argparse
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.train_samples import BASE, SEED, shape_named

if TYPE_CHECKING:
    import torch

    from onevision.config import ModelConfig
    from onevision.inputs.processor import Example
    from onevision.train.feed import MicroBatch

PACK_TOKENS, VIDEO_ID = 8192, 151647
LEARNING_RATE, MAX_NORM = 1e-4, 1.0


class Ours:
    """Samples packed into rows, our network, our loss."""

    def __init__(self, network: "torch.nn.Module", options: argparse.Namespace) -> None:
        import torch

        from onevision.accelerate.apply import accelerate_training
        from onevision.train.learner import Learner, prepare_learner
        from onevision.train.optim import freeze_parameters, make_optimizer
        from onevision.train.parallel import Processes
        from onevision.train.stage import Stage

        self.options = options
        stage = Stage(name=BASE, learning_rate=LEARNING_RATE, vision_learning_rate=LEARNING_RATE)
        freeze_parameters(network, stage)
        processes = Processes(device=torch.device(options.device))
        self.learner = prepare_learner(
            Learner(accelerate_training(network)),
            processes,
            recompute=options.recompute,
            compiled=options.compile,
        )
        self.optimizer = make_optimizer(network, stage)
        self.parameters = [p for g in self.optimizer.param_groups for p in g["params"]]

    def batches(self, examples: Sequence["Example"]) -> list["MicroBatch"]:
        """Pack samples into rows; with --padded, pad them as the plain way does."""
        from onevision.data.packing import share_prefix
        from onevision.data.packs import pack
        from onevision.train.feed import pack_rows, pad_rows

        rows = [share_prefix([example]) for example in examples]
        lengths = [len(row) for row in rows]
        inputs = shape_named(self.options.shape).inputs
        if self.options.padded:
            size = self.options.plain_batch
            groups = [range(i, min(i + size, len(rows))) for i in range(0, len(rows), size)]
            collate = pad_rows
        else:
            packs = pack(lengths, max_tokens=PACK_TOKENS)
            groups, collate = [packs[n] for n in range(len(packs))], pack_rows
        return [
            collate(
                [rows[i] for i in group],
                inputs,
                samples=[str(i) for i in group],
                sources=[0] * len(group),
            )
            for group in groups
        ]

    def losses(self, examples: Sequence["Example"]) -> list[float]:
        """Return the loss of each sample, computed in the packs of training."""
        import torch

        from onevision.data.packing import share_prefix
        from onevision.data.packs import pack

        lengths = [len(share_prefix([example])) for example in examples]
        packs = pack(lengths, max_tokens=PACK_TOKENS)
        found = [0.0] * len(examples)
        for number, one in enumerate(self.batches(examples)):
            with torch.no_grad(), precision_context(self.options.precision, "cpu"):
                losses = self.learner(one, torch.ones(len(one.owners))).losses
            counts = [int((examples[i].labels >= 0).sum()) for i in packs[number]]
            for i, own in zip(packs[number], losses.split(counts), strict=True):
                found[i] = float(own.mean())
        return found

    def step(self, batches: Sequence["MicroBatch"]) -> float:
        """Take an optimiser step; returns its loss."""
        import torch

        device, total, loss = self.options.device, sum(len(b.owners) for b in batches), 0.0
        for batch in batches:
            weights = torch.full((len(batch.owners),), 1 / total, device=device)
            with precision_context(self.options.precision, device):
                one = self.learner(batch.to(device), weights).loss
            one.backward()
            loss += float(one.detach())
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class Plain:
    """Padded batches, transformers' model and loss, torch's AdamW."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        import torch
        import transformers

        self.options = options
        self.model = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="sdpa"
        ).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=0.0
        )

    def batches(self, examples: Sequence["Example"]) -> list[dict]:
        """Pad every `plain_batch` samples to the longest, in the form transformers takes."""
        size = self.options.plain_batch
        inputs = shape_named(self.options.shape).inputs
        return [
            padded(examples[i : i + size], mean=inputs.image_mean, std=inputs.image_std)
            for i in range(0, len(examples), size)
        ]

    def losses(self, examples: Sequence["Example"]) -> list[float]:
        """Return the loss of each sample, computed in the batches of training."""
        import torch
        import torch.nn.functional as F

        found = []
        for batch in self.batches(examples):
            labels = batch.pop("labels")
            with torch.no_grad(), precision_context(self.options.precision, "cpu"):
                logits = self.model(**batch).logits
            for row, own in zip(logits, labels, strict=True):
                scored = own[1:] >= 0
                found.append(float(F.cross_entropy(row[:-1][scored].float(), own[1:][scored])))
        return found

    def step(self, batches: Sequence[dict]) -> float:
        """Take an optimiser step, its gradients added up batch by batch; returns its loss."""
        import torch

        total, loss = sum(int((b["labels"] >= 0).sum()) for b in batches), 0.0
        for batch in batches:
            with precision_context(self.options.precision, "cpu"):
                one = self.model(**batch, num_items_in_batch=total, use_cache=False).loss
            one.backward()
            loss += float(one.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


def padded(examples: Sequence["Example"], *, mean: tuple, std: tuple) -> dict:
    """Pad samples on the right, and give their media as transformers takes them."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from onevision.anyres import VideoLayout
    from onevision.inputs.chat import IGNORE
    from onevision.inputs.image import normalise

    images, sizes, counts, videos, ids = [], [], [], [], []
    for example in examples:
        pixels = normalise(example.crops, mean=mean, std=std)
        own = example.input_ids.clone()
        if any(isinstance(layout, VideoLayout) for layout in example.layouts):
            videos.append(pixels)
            own[example.visual_mask] = VIDEO_ID
        elif example.layouts:
            images += pixels.split([layout.num_crops for layout in example.layouts])
            sizes += [[layout.height, layout.width] for layout in example.layouts]
            counts.append(len(example.layouts))
        ids.append(own)
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
        "labels": pad_sequence(
            [e.labels for e in examples], batch_first=True, padding_value=IGNORE
        ),
    }
    if images:
        most = max(len(crops) for crops in images)
        batch["pixel_values"] = torch.stack(
            [torch.cat([c, c.new_zeros(most - len(c), *c.shape[1:])]) for c in images]
        )
        batch["image_sizes"] = torch.tensor(sizes)
        batch["batch_num_images"] = torch.tensor(counts)
    if videos:
        batch["pixel_values_videos"] = torch.stack(videos)
    return batch


def write_weights(directory: Path, config: "ModelConfig") -> None:
    """Write random weights as transformers does, for both ways to read."""
    import torch
    import transformers

    from onevision.checkpoint.hub import BUNDLED

    vision, language = config.vision, config.language
    theirs = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_layers,
            "num_attention_heads": vision.num_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": language.hidden_size,
            "intermediate_size": language.intermediate_size,
            "num_hidden_layers": language.num_layers,
            "num_attention_heads": language.num_heads,
            "num_key_value_heads": language.num_kv_heads,
            "vocab_size": language.vocab_size,
            "rope_theta": language.rope_theta,
            "max_position_embeddings": language.max_positions,
            "tie_word_embeddings": language.tie_embeddings,
        },
        image_token_index=config.inputs.image_token_id,
        video_token_index=VIDEO_ID,
        tie_word_embeddings=language.tie_embeddings,
    )
    torch.manual_seed(SEED)
    transformers.LlavaOnevisionForConditionalGeneration(theirs).save_pretrained(directory)
    shutil.copy(BUNDLED["tiny"] / "tokenizer.json", directory)


def precision_context(precision: str, device: str) -> AbstractContextManager[object]:
    """Return what makes the arithmetic of a step bf16, or nothing."""
    import torch

    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()

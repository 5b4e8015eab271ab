"""What most people write first: FastAPI, transformers' `generate`, and a lock around it.

    python -m benchmarks.serving_peer --checkpoint DIRECTORY --port 8001

It understands the requests of benchmarks/serving.py: streams of greedy answers to text, images and
videos as data addresses. Prompts and frames of videos are made by our code (transformers' video
processor needs torchvision); images are cut by transformers' own processor.
"""

import argparse
import base64
import io
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PIL
from torch import Tensor

from onevision import Conversation, Image, Message, Model, Text, Video, load
from onevision.anyres import VideoLayout
from onevision.inputs.chat import MediaSlot
from onevision.inputs.processor import Processor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def conversation_of(body: dict[str, Any]) -> Conversation:
    """Return the one user message of a chat request."""
    parts: list[Image | Video | Text] = []
    for part in body["messages"][0]["content"]:
        if part["type"] == "text":
            parts.append(Text(part["text"]))
            continue
        data = base64.b64decode(part[part["type"]]["url"].partition(",")[2])
        is_video = part["type"] == "video_url"
        parts.append(Video(data, num_frames=part["num_frames"]) if is_video else Image(data))
    return Conversation([Message("user", parts)])


class Tokens:
    """A streamer of transformers: it gives ids as they come, then None."""

    def __init__(self) -> None:
        self.coming: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        """Take ids; the first are the prompt's."""
        if self._is_prompt:
            self._is_prompt = False
            return
        for token_id in value.flatten().tolist():
            self.coming.put(token_id)

    def end(self) -> None:
        """Take no more."""
        self.coming.put(None)


class Peer:
    """A checkpoint in transformers that answers one request at a time."""

    def __init__(self, directory: Path, dtype: torch.dtype) -> None:
        import transformers
        from transformers.models.llava_onevision import (
            image_processing_pil_llava_onevision as images,
        )

        self.model = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
            directory, dtype=dtype, attn_implementation="sdpa"
        ).eval()
        self.images = images.LlavaOnevisionImageProcessorPil.from_pretrained(directory)
        ours: Model = load(directory)
        self.processor: Processor = ours.processor
        self.end_ids = ours.sampling.end_ids
        del ours
        self.lock = threading.Lock()

    def arguments(self, talk: Conversation) -> dict[str, Tensor]:
        """Return what `generate` reads of a conversation."""
        outline = self.processor.outline(talk)
        config, layouts, ids = self.model.config, iter(outline.layouts), list[int]()
        for piece in outline.pieces:
            if isinstance(piece, MediaSlot):
                layout = next(layouts)
                is_video = isinstance(layout, VideoLayout)
                slot = config.video_token_id if is_video else config.image_token_id
                ids += [slot] * layout.num_tokens
            else:
                ids += piece.ids
        found = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
        images = [PIL.open(io.BytesIO(m.source)) for m in talk.media if isinstance(m, Image)]  # type: ignore[arg-type] bytes
        if images:
            ready = self.images([image.convert("RGB") for image in images], return_tensors="pt")
            found |= {
                "pixel_values": ready["pixel_values"].to(self.model.dtype),
                "image_sizes": ready["image_sizes"],
                "batch_num_images": torch.tensor([len(images)]),
            }
        elif talk.media:
            cut = self.processor.inputs(self.processor.example(outline)).pixel_values
            found["pixel_values_videos"] = cut[None].to(self.model.dtype)
        return found

    def answer(self, body: dict[str, Any]) -> Iterator[int]:
        """Give the ids of a greedy answer as they come."""
        arguments, tokens = self.arguments(conversation_of(body)), Tokens()
        ends = None if body.get("ignore_eos") else list(self.end_ids)

        def generate() -> None:
            with torch.inference_mode():
                self.model.generate(
                    **arguments,
                    max_new_tokens=body["max_tokens"],
                    do_sample=False,
                    eos_token_id=ends,
                    pad_token_id=0,
                    streamer=tokens,
                )

        with self.lock:
            thread = threading.Thread(target=generate)
            thread.start()
            yield from iter(tokens.coming.get, None)
            thread.join()

    def events(self, body: dict[str, Any]) -> Iterator[bytes]:
        """Write an answer as a stream of chunks."""
        stream, count = self.processor.tokenizer.stream(), 0
        for token_id in self.answer(body):
            count += 1
            if token_id not in self.end_ids or body.get("ignore_eos"):
                delta = {"content": stream.push(token_id)}
                yield event({"choices": [{"index": 0, "delta": delta}]})
        yield event({"choices": [{"index": 0, "delta": {"content": stream.flush()}}]})
        yield event({"choices": [], "usage": {"completion_tokens": count}})
        yield b"data: [DONE]\n\n"


def event(value: dict[str, Any]) -> bytes:
    """Write an event of a stream."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def main() -> None:
    """Serve until killed."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    peer = Peer(options.checkpoint, DTYPES[options.dtype])
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/chat/completions")
    def chat(body: dict[str, Any]) -> StreamingResponse:
        return StreamingResponse(peer.events(body), media_type="text/event-stream")

    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()

"""load() and the object it returns: ask, stream, processor, network, config."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import torch

from onevision.batch import ModelInputs
from onevision.checkpoint.hub import resolve
from onevision.checkpoint.load import inspect, load_generation, load_network
from onevision.config import ModelConfig
from onevision.conversation import Conversation, Reply
from onevision.errors import CheckpointError, ContextLengthError, InputError
from onevision.generate.engine import generate
from onevision.generate.sampling import Sampling, SamplingOptions
from onevision.inputs.processor import Processor, usage
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(model: str | Path, *, device: str = "cpu", dtype: str = "auto") -> "Model":
    """Load a model: "tiny", a checkpoint directory of any layout, or a hub id (`owner/name`).

    `dtype` is "float32", "bfloat16", "float16", or "auto": the checkpoint's own, but float32 in
    place of float16 on CPU, where it is not usable. Raises ModelNotFoundError, CheckpointError,
    InputError.
    """
    place, kind = _device(device), _dtype(dtype, device)
    info = inspect(resolve(model))
    network = load_network(info, dtype=kind, device=place)
    if kind is None:
        network = _one_dtype(network, on_cpu=place.type == "cpu")
    tokenizer = Tokenizer.from_directory(info.directory)
    if tokenizer.size > info.config.language.vocab_size:
        raise CheckpointError(
            f"{info.directory}: the tokenizer has {tokenizer.size} entries, the embedding "
            f"{info.config.language.vocab_size} rows; use the tokenizer that came with the weights"
        )
    defaults = load_generation(info.directory, tokenizer)
    return Model(
        network=network,
        processor=Processor(info.config.inputs, tokenizer),
        config=info.config,
        sampling=Sampling(end_ids=defaults.end_ids, repetition_penalty=defaults.repetition_penalty),
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model. Options of `ask` and `stream` are the fields of `Sampling`."""

    network: LlavaNetwork = field(repr=False)
    processor: Processor
    config: ModelConfig
    sampling: Sampling

    def ask(self, conversation: Conversation, **options: Unpack[SamplingOptions]) -> Reply:
        """Answer a conversation that ends with the user's words.

        Raises InputError (MediaError, ContextLengthError) before anything is computed.
        """
        return self.ask_all([conversation], **options)[0]

    def ask_all(
        self, conversations: Sequence[Conversation], **options: Unpack[SamplingOptions]
    ) -> list[Reply]:
        """Answer several conversations in one batch; each answer is what it would be alone."""
        sampling = self.sampling.override(options)
        prompts = [self._prompt(conversation) for conversation in conversations]
        inputs = self.processor.join(prompts)
        rooms = [self._room(prompt) for prompt in prompts]
        sampling = _at_most(sampling, max(rooms))
        answers: list[list[int]] = [[] for _ in prompts]
        for ids in generate(self.network, self.config.language, inputs, sampling):
            for answer, token_id, room in zip(answers, ids.tolist(), rooms, strict=True):
                if len(answer) < room and not (answer and answer[-1] in sampling.end_ids):
                    answer.append(token_id)
        return [
            self._reply(prompt, answer, sampling)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def stream(
        self, conversation: Conversation, **options: Unpack[SamplingOptions]
    ) -> Generator[str, None, Reply]:
        """Answer as `ask` does, piece by piece; the generator returns the whole Reply.

        Bad input is refused by the call itself, before the first piece is asked for.
        """
        sampling, inputs = self.sampling.override(options), self._prompt(conversation)
        return self._stream(inputs, _at_most(sampling, self._room(inputs)))

    def _stream(self, inputs: ModelInputs, sampling: Sampling) -> Generator[str, None, Reply]:
        text = self.processor.tokenizer.stream()
        answer: list[int] = []
        for ids in generate(self.network, self.config.language, inputs, sampling):
            answer.append(int(ids[0]))
            piece = text.push(answer[-1])
            if piece:
                yield piece
        return self._reply(inputs, answer, sampling)

    def _prompt(self, conversation: Conversation) -> ModelInputs:
        if not conversation.awaits_answer:
            raise InputError("the conversation ends with the assistant; the user speaks last")
        inputs = self.processor(conversation)
        if self._room(inputs) < 1:
            counted, most = usage(inputs), self.config.language.max_positions - 1
            raise ContextLengthError(
                f"the prompt has {counted.prompt_tokens} tokens ({counted.text_tokens} text, "
                f"{counted.image_tokens} image, {counted.video_tokens} video); the model reads "
                f"{most} at most: give fewer or smaller images, or fewer frames"
            )
        return inputs

    def _room(self, prompt: ModelInputs) -> int:
        """Return how many tokens an answer may have before positions run out."""
        return self.config.language.max_positions - prompt.input_ids.shape[1]

    def _reply(self, inputs: ModelInputs, answer: list[int], sampling: Sampling) -> Reply:
        ended = bool(answer) and answer[-1] in sampling.end_ids
        return Reply(
            text=self.processor.tokenizer.decode(answer).strip(),
            finish_reason="stop" if ended else "length",
            usage=usage(inputs, completion_tokens=len(answer)),
        )


def _at_most(sampling: Sampling, room: int) -> Sampling:
    return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))


def _device(device: str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used here ({error}); try 'cpu'") from error
    return place


def _dtype(dtype: str, device: str) -> torch.dtype | None:
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected 'auto', {', '.join(map(repr, DTYPES))}")
    if dtype == "float16" and device == "cpu":
        raise InputError("float16 is not usable on CPU; take 'bfloat16' or 'float32'")
    return DTYPES[dtype]


def _one_dtype(network: LlavaNetwork, *, on_cpu: bool) -> LlavaNetwork:
    dtype = network.language_model.embedding.weight.dtype
    return network.to(torch.float32 if on_cpu and dtype == torch.float16 else dtype)

"""Answers of a model -> tokens that may follow each, guessed by a smaller model of its family.

The larger model then checks all guesses in one pass (`decode.py`): it samples each token itself and
keeps a guess if it is the same, so drafts change no answer. To guess sampled tokens too, the draft
model draws with the random numbers that the answer will draw with: two distributions that are near
each other then give the same token most of the time (arXiv 2408.07978).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.config import LanguageConfig
from onevision.errors import InputError, OneVisionError
from onevision.generate.kv_cache import KVCache, KVCacheBatch, count_position_bytes
from onevision.generate.prefill import Prefiller
from onevision.generate.prefix_cache import PrefixCache
from onevision.generate.request import Answer, Request
from onevision.generate.sampler import Sampler
from onevision.generate.scheduler import count_positions
from onevision.generate.settings import EngineSettings
from onevision.model.llava import LlavaNetwork

if TYPE_CHECKING:
    from onevision.generate.answer import Model

# Tokens guessed per step unless the settings say how many.
DRAFT_TOKENS = 4
logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Guess:
    """What may follow one answer, as far as it is guessed."""

    request: Request
    answer: Answer
    cache: KVCache
    sampler: Sampler
    most: int
    # Tokens that the cache lacks, and those guessed so far.
    pending: list[int]
    ids: list[int] = field(default_factory=list[int])

    @property
    def is_open(self) -> bool:
        """Whether another token may be guessed."""
        ended = bool(self.ids) and self.ids[-1] in self.request.sampling.end_ids
        return len(self.ids) < self.most and not ended

    def push(self, logits: Tensor) -> None:
        """Guesses the next token from `logits` [vocab] as the answer would sample it."""
        try:
            self.ids.append(self.sampler.sample(logits).id)
            self.pending = self.ids[-1:]
        except (OneVisionError, RuntimeError):  # nothing that the answer may hold is likely
            self.most = len(self.ids)


class Drafter:
    """Guesses how answers continue. If it fails, requests are answered without it."""

    def __init__(
        self,
        network: LlavaNetwork,
        config: LanguageConfig,
        settings: EngineSettings,
        *,
        vocab_size: int,
    ) -> None:
        """Takes the draft model's parts, and the number of ids of the model that it drafts for."""
        self.config, self.decoder, self.vocab_size = config, network.language_model, vocab_size
        self.dtype = network.language_model.dtype
        self.position_bytes = count_position_bytes(config, self.dtype, in_int8=False)
        self.num_tokens = settings.draft_tokens or DRAFT_TOKENS
        # Its bits need not be fixed: they do not reach the answers.
        half = settings.encoder_bytes // 2
        loose = replace(settings, deterministic=False, encoder_bytes=half)
        caches = PrefixCache(enabled=False)
        self.prefiller = Prefiller(network, loose, caches, self._new_kv_cache)

    def add(self, request: Request) -> None:
        """Lets the draft model read the prompt of a request, which nothing has been computed of."""
        media = [replace(medium, patches=[]) for medium in request.media]
        request.drafting = replace(request, answers=[], media=media, on_delta=None)

    def propose(self, answers: Sequence[tuple[Request, Answer]]) -> list[list[int]]:
        """Returns the tokens that may follow each answer; none if its prompt is not read yet.

        Prompts are read here, a chunk of one per step, so that no first token waits for them.
        """
        self._read([request for request, _ in answers])
        guesses = {
            answer: self._begin(request, answer)
            for request, answer in answers
            if request.drafting is not None and request.drafting.is_prefilled
        }
        try:
            while running := [guess for guess in guesses.values() if guess.is_open]:
                for guess, logits in zip(running, self._run(running), strict=True):
                    guess.push(logits)
        except Exception:
            logger.exception("the draft model failed; %d answers continue without it", len(guesses))
            for guess in guesses.values():
                guess.request.drafting = None
            return [[] for _ in answers]
        return [guesses[answer].ids if answer in guesses else [] for _, answer in answers]

    def _read(self, requests: Sequence[Request]) -> None:
        """Reads a chunk of the first prompt that is not read yet."""
        for request in requests:
            own = request.drafting
            if own is None or own.is_prefilled:
                continue
            try:
                own.is_prefilled = bool(self.prefiller.step([own]))
                own.media = [] if own.is_prefilled else own.media
            except Exception:
                logger.exception("the draft model cannot read a prompt; it is answered without it")
                request.drafting = None
            return

    def _begin(self, request: Request, answer: Answer) -> Guess:
        """Drops from the answer's draft cache what the answer does not hold after all."""
        assert request.drafting is not None
        read = request.drafting.kv_cache
        assert read is not None
        if answer.draft_cache is None:
            answer.draft_cache = read
            if len(request.answers) > 1:
                answer.draft_cache = self._new_kv_cache(request)
                answer.draft_cache.copy_prefix(read, request.num_tokens)
        kept = min(len(answer.draft_ids), len(answer.ids) - 1)
        while answer.draft_ids[:kept] != answer.ids[:kept]:
            kept -= 1
        answer.draft_ids = answer.draft_ids[:kept]
        answer.draft_cache.length = request.num_tokens + kept
        return Guess(
            request=request,
            answer=answer,
            cache=answer.draft_cache,
            sampler=answer.sampler.fork(),
            most=min(self.num_tokens, request.sampling.max_new_tokens - len(answer.ids) - 1),
            pending=answer.ids[kept:],
        )

    def _run(self, guesses: Sequence[Guess]) -> Tensor:
        """Runs the pending tokens; returns logits [n, vocab] after the last of each guess."""
        ids, positions = list[int](), list[int]()
        for guess in guesses:
            begin = guess.request.num_positions + len(guess.answer.draft_ids)
            ids += guess.pending
            positions += range(begin, begin + len(guess.pending))
        counts, device = [len(guess.pending) for guess in guesses], self.decoder.device
        x = self.decoder.embedding(torch.tensor([ids], device=device))  # [1, S, D]
        batch = KVCacheBatch([guess.cache for guess in guesses], counts)
        hidden = self.decoder(x, torch.tensor([positions], device=device), cache=batch)[0]
        batch.advance()
        for guess in guesses:
            guess.answer.draft_ids += guess.pending
        last = torch.tensor(counts, device=device).cumsum(0) - 1
        logits = self.decoder.head(hidden[last])[:, : self.vocab_size]
        # Models of a family round the same vocabulary up differently.
        return F.pad(logits, (0, self.vocab_size - logits.shape[1]), value=-torch.inf)

    def _new_kv_cache(self, request: Request) -> KVCache:
        capacity = count_positions(request.prompt, request.sampling)
        return KVCache(self.config, capacity, dtype=self.dtype, device=self.decoder.device)


def new_drafter(
    draft: "Model | None", settings: EngineSettings, *, vocab_size: int
) -> Drafter | None:
    """Returns what guesses by the model `draft`, for one with so many ids; None without one."""
    if draft is None:
        return None
    return Drafter(draft.network, draft.config.language, settings, vocab_size=vocab_size)


def check_devices(devices: int, *, draft: bool, settings: EngineSettings | None) -> None:
    """Raises InputError for what a model on several devices does not do yet."""
    kv_int8 = settings is not None and settings.kv_int8
    if devices != 1 and (draft or kv_int8):
        option = "a draft model" if draft else "keys and values in 8 bits"
        raise InputError(f"{option}: not for a model on {devices} devices; leave one of them out")


def check_draft(model: "Model", draft: "Model") -> "Model":
    """Returns `draft`, which computes as its file says, if it can guess for `model`.

    Raises InputError unless it reads the same prompts.
    """
    ours, theirs = model.config, draft.config
    faults = (
        (model.processor.tokenizer.ids != draft.processor.tokenizer.ids, "has another tokenizer"),
        (ours.inputs != theirs.inputs, "reads pictures or chats differently"),
        (
            theirs.language.max_positions < ours.language.max_positions,
            f"reads {theirs.language.max_positions} tokens, not {ours.language.max_positions}",
        ),
    )
    for is_fault, words in faults:
        if is_fault:
            raise InputError(
                f"the draft model {words}; expected a smaller model of the same family"
            )
    return draft

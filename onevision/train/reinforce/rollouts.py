"""Prompts and the network as it stands -> sampled answers with rewards, a line per prompt on disk.

    rollouts/000003-0.jsonl     of the fourth rollout, by the first process
        {"place": 96, "id": "7", "answers": [{"text": "B", "ids": [33, 2], "reward": 1.0,
         "logprobs": [-0.1, -0.02], "finish_reason": "stop"}, ...]}

All answers to a prompt are sampled from one prefill by the engine that serves requests. They depend
on the weights, the seed and the prompt's place alone, so a resumed run samples the same ones. A
rollout that is half learned is read back, since the weights that sampled it are gone.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Literal

import torch

from onevision.boxes import Coordinates
from onevision.config import ModelConfig
from onevision.errors import CheckpointError, DataError, InputError
from onevision.eval.judging.judge import Judge
from onevision.files import write_lines
from onevision.generate.answer import Model
from onevision.generate.engine import Engine
from onevision.generate.request import Answer, Request
from onevision.generate.sampler import Sampling, SamplingOptions
from onevision.generate.settings import EngineSettings
from onevision.inputs.processor import Processor
from onevision.inputs.templates import coordinates_of, end_ids, end_texts
from onevision.model.llava import LlavaNetwork
from onevision.plural import counted
from onevision.train.evaluation import preserve_state
from onevision.train.preference.critic import MAX_SCORE, score_answer
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.reinforce.data import RewardedPrompt
from onevision.train.reinforce.rewards import reward_answer
from onevision.values import from_plain

ROLLOUTS = "rollouts"
# Whose log-probabilities a trainer adds: of the weights that sampled, or of the first ones.
Scored = Literal["proximal", "reference"]


@dataclass(frozen=True, kw_only=True)
class SampledAnswer:
    """One answer to a prompt."""

    text: str
    ids: tuple[int, ...]  # as sampled, the token that ended it included
    logprobs: tuple[float, ...]  # of each, under the distribution it was sampled from
    finish_reason: str
    reward: float | None  # 0 to 1; None if a judge's reply was not readable
    # Log-probabilities of its tokens by the trainer, under the weights that sampled it and under
    # those that the run begins with; empty where they are not needed.
    proximal: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()

    def with_scores(self, name: Scored, values: Sequence[float]) -> "SampledAnswer":
        """Returns it with the log-probabilities of one kind."""
        if name == "proximal":
            return replace(self, proximal=tuple(values))
        return replace(self, reference=tuple(values))


@dataclass(frozen=True, kw_only=True)
class Group:
    """The answers to the prompt at a place of the run's order."""

    place: int
    id: str
    answers: tuple[SampledAnswer, ...]

    @property
    def rewards(self) -> list[float | None]:
        """The reward of each answer."""
        return [one.reward for one in self.answers]

    @property
    def is_informative(self) -> bool:
        """Whether some answers are better than others."""
        return len({one for one in self.rewards if one is not None}) > 1


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Samples and rewards answers by the network that is training."""

    network: LlavaNetwork = field(repr=False)
    model_config: ModelConfig
    processor: Processor
    config: ReinforceConfig
    seed: int
    judge: Judge | None = None
    # Called with what does not end the run and must not pass unnoticed.
    warn: Callable[[str], object] = str

    @property
    def coordinates(self) -> Coordinates:
        """How the model writes boxes and points."""
        return coordinates_of(self.model_config.inputs.template)

    def sample(
        self,
        prompts: Sequence[tuple[int, RewardedPrompt]],
        *,
        name: str,
        num_answers: int | None = None,
    ) -> list[Group]:
        """Answers prompts, each at its place; `name` is a part of their seeds.

        Raises EngineError, JudgeError, and DataError for a prompt that cannot be read.
        """
        options = self.config.sampling
        if num_answers is not None:
            options = options | SamplingOptions(num_answers=num_answers)
        model = self._model()
        groups: list[Group] = []
        with preserve_state(self.network), _without_autocast(self.network):
            # With a new engine: what an old one has cached is of other weights.
            engine = model.new_engine()
            size = self.config.prompts_at_once
            for begin in range(0, len(prompts), size):
                some = prompts[begin : begin + size]
                groups += self._answer(model, engine, some, options, name=name)
        return self._judge(groups, dict(prompts))

    def _model(self) -> Model:
        template, tokenizer = self.model_config.inputs.template, self.processor.tokenizer
        return Model(
            network=self.network,
            processor=self.processor,
            config=self.model_config,
            sampling=Sampling(end_ids=end_ids(template, tokenizer), end_texts=end_texts(template)),
            settings=EngineSettings(prefix_cache=False, cuda_graphs=False),
            arithmetic=str(self.network.language_model.dtype).removeprefix("torch."),
        )

    def _answer(
        self,
        model: Model,
        engine: Engine,
        prompts: Sequence[tuple[int, RewardedPrompt]],
        options: SamplingOptions,
        *,
        name: str,
    ) -> list[Group]:
        requests: list[Request] = []
        for place, prompt in prompts:
            own = options | SamplingOptions(seed=_seed(f"{self.seed}/{name}/{place}"))
            try:
                inputs = model.prompt(prompt.conversation)
                requests.append(engine.submit(inputs, model.sampling.override(own)))
            except InputError as error:
                raise DataError(f"prompt {prompt.id!r} cannot be answered: {error}") from error
        engine.run(requests)
        groups: list[Group] = []
        for (place, prompt), request in zip(prompts, requests, strict=True):
            if request.error is not None:
                raise request.error
            answers = tuple(self._reward(answer, prompt) for answer in request.answers)
            groups.append(Group(place=place, id=prompt.id, answers=answers))
        return groups

    def _reward(self, answer: Answer, prompt: RewardedPrompt) -> SampledAnswer:
        text, reason = answer.whole_text.strip(), answer.finish_reason
        assert reason is not None, "the engine has run to the end"
        reward = None
        if prompt.type != "judge":
            reward = reward_answer(
                text, prompt, coordinates=self.coordinates, answer_tags=self.config.answer_tags
            )
        logprobs = [token.logprob for token in answer.tokens]
        return SampledAnswer(
            text=text,
            ids=tuple(answer.ids),
            logprobs=tuple(one for one in logprobs if one is not None),
            finish_reason=reason,
            reward=reward,
        )

    def _judge(self, groups: list[Group], prompts: dict[int, RewardedPrompt]) -> list[Group]:
        """Returns the groups with the rewards of a judge. Raises JudgeError."""
        asked = [
            (group.place, one.text)
            for group in groups
            if prompts[group.place].type == "judge"
            for one in group.answers
        ]
        if not asked:
            return groups
        judge = self.judge
        assert judge is not None, "checked before the run"
        each = list(dict.fromkeys(asked))
        with ThreadPoolExecutor(judge.num_parallel) as pool:
            messages = [prompts[place].message for place, _ in each]
            lines = pool.map(score_answer, messages, [text for _, text in each], repeat(judge))
            scores = {one: line["score"] for one, line in zip(each, lines, strict=True)}
        if unread := sum(scores[one] is None for one in asked):
            self.warn(
                f"{unread} of {counted(len(asked), 'answer')} have no reward, since the judge's "
                "reply gives no score; nothing is learned from them"
            )

        def with_reward(place: int, one: SampledAnswer) -> SampledAnswer:
            score = scores.get((place, one.text))
            return one if score is None else replace(one, reward=score / MAX_SCORE)

        return [
            replace(g, answers=tuple(with_reward(g.place, one) for one in g.answers))
            for g in groups
        ]


def write_rollout(groups: Sequence[Group], output: Path, *, number: int, rank: int) -> None:
    """Writes a process's share of a rollout, whole or not at all. Raises OSError."""
    path = output / ROLLOUTS / f"{number:06d}-{rank}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lines(path, [asdict(group) for group in groups])


def read_rollout(output: Path, *, number: int, places: Sequence[int]) -> list[Group]:
    """Reads the groups at these places, whichever process wrote them. Raises CheckpointError."""
    found: dict[int, Group] = {}
    for path in sorted((output / ROLLOUTS).glob(f"{number:06d}-*.jsonl")):
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                group = from_plain(Group, json.loads(line), where=str(path), error=CheckpointError)
                found[group.place] = group
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); restore it") from error
    if missing := [place for place in places if place not in found]:
        raise CheckpointError(
            f"{output / ROLLOUTS}: rollout {number} lacks {len(missing)} of {len(places)} prompts, "
            "and the weights that answered them are gone; resume from a snapshot at the start of a "
            "rollout, or start over in another directory"
        )
    return [found[place] for place in places]


def _seed(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:6], "big")


@contextmanager
def _without_autocast(network: LlavaNetwork) -> Iterator[None]:
    """Computes in the type of the weights, which the engine's caches have."""
    device = network.language_model.device.type
    with torch.autocast(device, enabled=False):
        yield

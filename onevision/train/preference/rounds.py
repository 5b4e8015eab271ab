"""Prompts and a critic -> a model that learns from its own answers, in rounds of DPO.

    runs/chat/
        critic/              the critic's replies, by content
        round-1/
            run.json         the round's settings; others are refused by name
            answers.jsonl    sampled answers, one line per prompt    candidates.py
            scores.jsonl     the critic's scores                     critic.py
            pairs.jsonl      best and worst; left_out.jsonl          pairing.py
            results.json     counts and mean score of the round
            run/             DPO on the pairs; the next round starts from run/checkpoint
        round-2/ ...

Files that exist are not made again, so a stopped run resumes where it was. `onevision dpo` reads a
round's pairs: with `learns` off a run stops before it learns, and any number of processes may then
make the round's `run/`.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

from onevision.checkpoint.load import inspect
from onevision.endpoint import EndpointConfig
from onevision.errors import ConfigError, DataError
from onevision.eval.answers import SCORES, AnswerFiles
from onevision.eval.judging.judge import Judge
from onevision.generate.answer import load
from onevision.inputs.tokenizer import Tokenizer
from onevision.locks import lock_directory
from onevision.train.config import TrainConfig, list_changes, read_train_config
from onevision.train.directory import RunDirectory, refuse_changes
from onevision.train.options import RunOptions
from onevision.train.preference.candidates import CriticPrompt, RoundsConfig, sample_answers
from onevision.train.preference.critic import (
    LocalCritic,
    check_critic,
    critic_fingerprint,
    score_answers,
)
from onevision.train.preference.data import Prompt, read_prompts
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.preference.objective import make_preference
from onevision.train.preference.pairing import pair_up, write_pairs
from onevision.train.report.journal import Callbacks
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.run import RunResult, run_stage
from onevision.train.stage import Stage
from onevision.train.start import Starts

CRITIC, RUN = "critic", "run"
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What is learned, from which prompts, and which critic scores the answers."""

    start: Path  # a checkpoint
    prompts: Path  # as `read_prompts` reads them
    output: Path
    critic: EndpointConfig | LocalCritic
    stage: Stage  # of DPO, in every round
    root: Path | None = None  # of media paths; by default the prompts' directory
    config: RoundsConfig = field(default_factory=RoundsConfig)
    options: RunOptions = field(default_factory=RunOptions)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    # Whether to learn, or stop once a round's pairs are written.
    learns: bool = True
    allow_change: Sequence[str] = ()

    @property
    def critic_prompt(self) -> CriticPrompt:
        """How the critic is asked."""
        usual: CriticPrompt = "pointwise" if isinstance(self.critic, LocalCritic) else "general"
        return self.config.critic_prompt or usual

    @property
    def media_root(self) -> Path:
        """The directory that the prompts' media paths are relative to."""
        return self.root or self.prompts.parent


@dataclass(frozen=True, kw_only=True)
class RoundsCallbacks:
    """What is called with each round's outcome, with progress, and by the runs."""

    on_message: Callable[[str], object] = str
    on_progress: Callable[[str], object] = str
    run: Callbacks = field(default_factory=Callbacks)


def run_rounds(rounds: Rounds, callbacks: RoundsCallbacks) -> RunResult:
    """Runs all rounds, or resumes them; returns the last one's checkpoint.

    It is None if the run was stopped, or if `learns` is off and a round's pairs wait for a run.
    Raises JudgeError if the critic cannot be reached, DataError if prompts cannot be read or yield
    no pair, ConfigError for other settings than the rounds began with.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "answers are sampled in one process; run it without torchrun and with --no-learn, then "
            "learn from the round's pairs.jsonl by torchrun ... onevision dpo"
        )
    prompts = read_prompts(rounds.prompts, root=rounds.root, num_frames=rounds.stage.num_frames)
    with lock_directory(rounds.output, holder="trainer"):
        result = RunResult(checkpoint=rounds.start)
        for number in range(1, rounds.config.num_rounds + 1):
            assert result.checkpoint is not None
            result = Round(
                rounds=rounds,
                callbacks=callbacks,
                number=number,
                start=result.checkpoint,
                prompts=prompts,
            ).finish()
            if result.checkpoint is None:
                break
    return result


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round, in a directory of its own."""

    rounds: Rounds
    callbacks: RoundsCallbacks
    number: int
    start: Path  # the checkpoint it starts from
    prompts: Sequence[Prompt]

    @property
    def files(self) -> AnswerFiles:
        """The files of its directory."""
        return AnswerFiles(self.rounds.output / f"round-{self.number}")

    @property
    def run(self) -> RunDirectory:
        """The directory of its DPO."""
        return RunDirectory(self.files.directory / RUN)

    def finish(self) -> RunResult:
        """Does what is left of the round."""
        self.files.begin(self._settings())
        self._sample_and_score()
        pairing = pair_up(self.prompts, self.files.answers(), self.files.scores())
        pairs = write_pairs(pairing, self.files.directory)
        self.callbacks.on_message(f"round {self.number}: {pairing}")
        self.files.write_results(pairing.figures())
        if not self.rounds.learns and not self.run.checkpoint.is_dir():
            self.callbacks.on_message(f"to learn from them: {self._command(pairs)}")
            return RunResult(checkpoint=None)
        result = self._learn(pairs)
        if result.checkpoint is not None:
            accuracy = later_accuracy(self.run)
            self.files.write_results(pairing.figures() | {"accuracy": accuracy})
            self.callbacks.on_message(
                f"round {self.number}: {100 * accuracy:.1f} % of new pairs preferred"
            )
        return result

    def _settings(self) -> dict[str, object]:
        """Returns all that decides the round's answers and scores."""
        rounds, first = self.rounds, self.number == 1
        model = {"name": str(self.start), "fingerprint": _digest(self.start) if first else None}
        return {
            "round": self.number,
            "model": model,
            "data": {"place": str(rounds.prompts), "fingerprint": _fingerprint(self.prompts)},
            **rounds.config.sampling,
            "seed": rounds.options.seed,
            "precision": rounds.options.precision,
            "num_frames": rounds.stage.num_frames,
            "critic": self._critic_settings(),
        }

    def _critic_settings(self) -> dict[str, object]:
        critic, prompt = self.rounds.critic, critic_fingerprint(self.rounds.critic_prompt)
        told: dict[str, object] = {"model": critic.model, "prompt": prompt}
        local = isinstance(critic, LocalCritic)
        return told | ({"fingerprint": _digest(critic.path)} if local else {})

    def _sample_and_score(self) -> None:
        files, rounds = self.files, self.rounds
        if (files.directory / SCORES).is_file():
            return
        if isinstance(rounds.critic, LocalCritic):
            inspect(rounds.critic.path)  # before hours go into answers for it
        else:
            check_critic(rounds.critic)
        if len(files.answers()) < len(self.prompts):
            model = load(
                self.start, device=rounds.options.device, dtype=DTYPES[rounds.options.precision]
            )
            sample_answers(
                model,
                self.prompts,
                files,
                config=rounds.config,
                seed=f"{rounds.options.seed}/{self.number}",
                on_progress=partial(self._progress, f"of {len(self.prompts):,} prompts answered"),
            )
            del model  # training needs its memory
        compares = rounds.critic_prompt == "pairwise"
        scores = score_answers(
            self.prompts,
            files.answers(),
            self._open_critic(),
            prompt=rounds.critic_prompt,
            on_progress=partial(
                self._progress, "comparisons made" if compares else "answers scored"
            ),
        )
        files.write_scores(scores)

    def _open_critic(self) -> Judge:
        critic, memory = self.rounds.critic, self.rounds.output / CRITIC
        if isinstance(critic, LocalCritic):
            options = self.rounds.options
            return critic.open(
                device=options.device,
                dtype=DTYPES[options.precision],
                memory=memory,
                fingerprint=_digest(critic.path),
            )
        return Judge(critic, memory=memory)

    def _progress(self, what: str, done: int) -> None:
        self.callbacks.on_progress(f"round {self.number}: {done:,} {what}")

    def _learn(self, pairs: Path) -> RunResult:
        rounds = self.rounds
        target, words = inspect(self.start).config, Tokenizer.from_directory(self.start)
        config = TrainConfig(
            stage=rounds.stage.learning_from(str(pairs)),
            target=target,
            options=rounds.options,
            preference=rounds.preference,
            starts=(str(self.start),),
            tokenizer=words.name,
        )
        if self.run.checkpoint.is_dir():
            changes = list_changes(read_train_config(self.run.settings), config)
            refuse_changes(self.run.path, changes, rounds.allow_change)
            return RunResult(checkpoint=self.run.checkpoint)
        return run_stage(
            config,
            tokenizer=words,
            starts=Starts(previous=(self.start,)),
            output=self.run.path,
            make_objective=partial(make_preference, media_root=rounds.media_root),
            allow_change=rounds.allow_change,
            callbacks=self.callbacks.run,
        )

    def _command(self, pairs: Path) -> str:
        return (
            f"onevision dpo {pairs} --root {self.rounds.media_root} --from {self.start} "
            f"--output {self.run.path}, with the same --set except the rounds' own; then run this "
            "command again"
        )


def later_accuracy(run: RunDirectory) -> float:
    """Returns the accuracy on the pairs of the later half of a DPO run, from 0 to 1.

    A step's accuracy is measured before its pairs are learned, so in one epoch they are new.
    """
    shares = [line["accuracy"] for line in read_metrics(run.path / METRICS)]
    return fmean(shares[len(shares) // 2 :])


def _digest(checkpoint: Path) -> str:
    """Returns a digest of a checkpoint's weights, config and tokenizer."""
    digest = hashlib.sha256()
    files = (*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.json"))
    for path in sorted(files):
        try:
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check it") from error
    return digest.hexdigest()[:32]


def _fingerprint(prompts: Sequence[Prompt]) -> str:
    """Returns a digest of the words and the media's names of all prompts."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(repr((prompt.id, sorted(prompt.fields.items()))).encode())
    return digest.hexdigest()[:16]

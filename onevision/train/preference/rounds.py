"""A model that learns from its own answers, in rounds: draw, grade, pair, DPO, and again.

    runs/chat/
        critic/              the critic's replies, by content
        round-1/
            run.json         what was asked of whom; other settings are refused by name
            answers.jsonl    drawn answers, a line a prompt          candidates.py
            scores.jsonl     the critic's grades                     critic.py
            pairs.jsonl      best and worst; left_out.jsonl          pairing.py
            results.json     what the round came to
            run/             DPO on the pairs; run/checkpoint begins the next round
        round-2/ ...

What is there is not done again, so a run that was stopped goes on where it was. A round's pairs are
a file as `onevision dpo` takes it: with `learns` off a run stops before it learns, and the round's
`run/` may be made by any number of processes.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

from onevision.checkpoint.load import inspect
from onevision.errors import ConfigError, DataError
from onevision.eval.answers import SCORES, AnswerFiles
from onevision.eval.judging.client import EndpointConfig
from onevision.eval.judging.judge import Judge
from onevision.generate.answer import load
from onevision.inputs.tokenizer import Tokenizer
from onevision.train.directory import refuse_changes
from onevision.train.finish import CHECKPOINT
from onevision.train.guard import only_trainer
from onevision.train.options import RunOptions
from onevision.train.preference.candidates import RoundsConfig, draw_answers
from onevision.train.preference.critic import check_critic, critic_fingerprint, score_answers
from onevision.train.preference.data import Prompt, read_prompts
from onevision.train.preference.feed import open_feed
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.preference.pairing import pair_up, write_pairs
from onevision.train.preference.run import PreferenceRun
from onevision.train.recipes import Stage
from onevision.train.report.journal import Reports
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.run import Outcome, run_stage
from onevision.train.settings import Settings, difference, read_settings
from onevision.train.start import SETTINGS, Starts

CRITIC, RUN = "critic", "run"
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What is to be learned from what, and who grades it."""

    start: Path  # a checkpoint
    prompts: Path  # as `read_prompts` reads them
    output: Path
    critic: EndpointConfig
    stage: Stage  # of DPO, in every round
    root: Path | None = None  # where media lie; by default beside the prompts
    config: RoundsConfig = field(default_factory=RoundsConfig)
    options: RunOptions = field(default_factory=RunOptions)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    # Whether to learn, or stop where there is something to learn from.
    learns: bool = True
    allow_change: Sequence[str] = ()

    @property
    def media_root(self) -> Path:
        """Where relative paths of the prompts' media lie."""
        return self.root or self.prompts.parent


@dataclass(frozen=True, kw_only=True)
class Hearers:
    """Who hears of the rounds: of what each came to, of how far it is, and of steps."""

    say: Callable[[str], object] = str
    progress: Callable[[str], object] = str
    reports: Reports = field(default_factory=Reports)


def run_rounds(told: Rounds, hearers: Hearers) -> Outcome:
    """Take all rounds, or go on with them; returns the last one's checkpoint.

    None in its place says that somebody stopped it, or that `learns` is off and a round's pairs
    wait for a run. Raises JudgeError where the critic cannot be asked, DataError where prompts
    cannot be read or give no pair, ConfigError for other settings than it was begun with.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "answers are drawn in one process; start it without torchrun and with --no-learn, then "
            "learn from the round's pairs.jsonl by torchrun ... onevision dpo"
        )
    prompts = read_prompts(told.prompts, root=told.root, num_frames=told.stage.num_frames)
    with only_trainer(told.output):
        outcome = Outcome(checkpoint=told.start)
        for number in range(1, told.config.num_rounds + 1):
            assert outcome.checkpoint is not None
            one = Round(
                told=told, hearers=hearers, number=number, start=outcome.checkpoint, prompts=prompts
            )
            outcome = one.go_on()
            if outcome.checkpoint is None:
                break
    return outcome


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round, in a directory of its own."""

    told: Rounds
    hearers: Hearers
    number: int
    start: Path  # the checkpoint it begins with
    prompts: Sequence[Prompt]

    @property
    def files(self) -> AnswerFiles:
        """Its directory's files."""
        return AnswerFiles(self.told.output / f"round-{self.number}")

    @property
    def run(self) -> Path:
        """The directory of its DPO."""
        return self.files.directory / RUN

    def go_on(self) -> Outcome:
        """Do what is left of the round."""
        self.files.begin(self._settings())
        self._draw_and_score()
        pairing = pair_up(self.prompts, self.files.answers(), self.files.scores())
        pairs = write_pairs(pairing, self.files.directory)
        self.hearers.say(f"round {self.number}: {pairing}")
        self.files.write_results(pairing.figures())
        if not self.told.learns and not (self.run / CHECKPOINT).is_dir():
            self.hearers.say(f"to learn from them: {self._command(pairs)}")
            return Outcome(checkpoint=None)
        outcome = self._learn(pairs)
        if outcome.checkpoint is not None:
            accuracy = later_accuracy(self.run)
            self.files.write_results(pairing.figures() | {"accuracy": accuracy})
            self.hearers.say(f"round {self.number}: {100 * accuracy:.1f} % of new pairs preferred")
        return outcome

    def _settings(self) -> dict[str, object]:
        """Return all that decides the round's answers and grades."""
        told, first = self.told, self.number == 1
        model = {"name": str(self.start), "fingerprint": _digest(self.start) if first else None}
        return {
            "round": self.number,
            "model": model,
            "data": {"place": str(told.prompts), "fingerprint": _fingerprint(self.prompts)},
            **told.config.drawing,
            "seed": told.options.seed,
            "precision": told.options.precision,
            "num_frames": told.stage.num_frames,
            "critic": {"model": told.critic.model, "prompt": critic_fingerprint()},
        }

    def _draw_and_score(self) -> None:
        files, told = self.files, self.told
        if (files.directory / SCORES).is_file():
            return
        check_critic(told.critic)
        if len(files.answers()) < len(self.prompts):
            model = load(
                self.start, device=told.options.device, dtype=DTYPES[told.options.precision]
            )
            draw_answers(
                model,
                self.prompts,
                files,
                config=told.config,
                seed=f"{told.options.seed}/{self.number}",
                tell=partial(self._progress, f"of {len(self.prompts):,} prompts answered"),
            )
            del model  # its memory is for training
        critic = Judge(told.critic, memory=told.output / CRITIC)
        tell = partial(self._progress, "answers graded")
        files.write_scores(score_answers(self.prompts, files.answers(), critic, tell=tell))

    def _progress(self, what: str, done: int) -> None:
        self.hearers.progress(f"round {self.number}: {done:,} {what}")

    def _learn(self, pairs: Path) -> Outcome:
        told = self.told
        target, words = inspect(self.start).config, Tokenizer.from_directory(self.start)
        settings = Settings(
            stage=told.stage.learning_from(str(pairs)),
            target=target,
            options=told.options,
            preference=told.preference,
            starts=(str(self.start),),
            tokenizer=words.name,
        )
        if (self.run / CHECKPOINT).is_dir():
            changes = difference(read_settings(self.run / SETTINGS), settings)
            refuse_changes(self.run, changes, told.allow_change)
            return Outcome(checkpoint=self.run / CHECKPOINT)
        return run_stage(
            settings,
            tokenizer=words,
            starts=Starts(previous=(self.start,)),
            output=self.run,
            make_feed=partial(
                open_feed,
                path=pairs,
                root=told.media_root,
                max_positions=target.language.max_positions,
                seed=told.options.seed,
            ),
            allow_change=told.allow_change,
            reports=self.hearers.reports,
            kind=PreferenceRun,
        )

    def _command(self, pairs: Path) -> str:
        return (
            f"onevision dpo {pairs} --root {self.told.media_root} --from {self.start} "
            f"--output {self.run}, with the same --set but for the rounds' own; then this command "
            "again"
        )


def later_accuracy(run: Path) -> float:
    """Return how many pairs of the later half of a DPO run were preferred rightly, as a share.

    A step's accuracy is counted before its pairs are learned from, so in one epoch they are new.
    """
    shares = [line["accuracy"] for line in read_metrics(run / METRICS)]
    return fmean(shares[len(shares) // 2 :])


def _digest(checkpoint: Path) -> str:
    """Return what changes with the bytes of a checkpoint's weights, config and tokenizer."""
    told = hashlib.sha256()
    files = (*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.json"))
    for path in sorted(files):
        try:
            with path.open("rb") as file:
                told.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check it") from error
    return told.hexdigest()[:32]


def _fingerprint(prompts: Sequence[Prompt]) -> str:
    """Return what changes with the words and the media's names of any prompt."""
    told = hashlib.sha256()
    for prompt in prompts:
        told.update(repr((prompt.id, sorted(prompt.fields.items()))).encode())
    return told.hexdigest()[:16]

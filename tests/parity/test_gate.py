r"""Training, asking, evaluating and serving show the network the same, and get the same from it.

`make parity` prints the table: a row per prompt, a column per path, each begun at the user's door.

What every path is held to, against `Model.ask` in float32:

    ids, pixels     bit for bit the same, recorded where they enter the engine or the learner
    logits          of every token of the answer, within TOLERANCE; "=" where all bits are the same
    tokens, text    the same greedy answer, read from the path's own output
    logprobs        those that the server reports are those of the recorded logits

Learners compute no logits of their own accord: their losses at the answer's tokens, which they were
given as text, are the negative log-probabilities of the same tokens. Quantised weights are held to
`Model.ask` with the same weights, within the rounding of bfloat16.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pytest

from tests.parity import gate_doors as doors
from tests.parity.gate_doors import Answers
from tests.parity.gate_prompts import GatePrompt, write_prompts
from tests.parity.gate_recorder import Recorder, Seen

# A minute of one core.
pytestmark = pytest.mark.slow

# Of logits and log-probabilities; batches round their sums otherwise than single prompts.
TOLERANCE = 2e-4
# Two steps of bfloat16 at logits between 16 and 32.
BFLOAT16 = 0.25
# Of log-probabilities in answers of the server, which are rounded.
REPORTED = 1e-5
# Of rows that hold a few samples each, and all of them.
NARROW, WIDE = 600, 6000


@dataclass(frozen=True, kw_only=True)
class Path:
    """What one path told and what was seen in it, by prompt."""

    told: Answers
    seen: Mapping[str, Seen]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    files = tmp_path_factory.mktemp("gate")
    return files, write_prompts(files)


@pytest.fixture(scope="module")
def paths(prompts, tmp_path_factory):
    """All paths, walked once; the first is what the others are compared with."""
    files, asked = prompts
    recorder = Recorder()

    def walk(door: Callable[..., Answers]) -> Path:
        told = door(asked, files)
        seen = recorder.take()
        found = {one.key: one for one in seen}
        assert len(found) == len(seen), "each prompt is asked once"
        return Path(told=told, seen=_match(told, found, walked))

    with pytest.MonkeyPatch.context() as patch, recorder.watching():
        patch.setenv("ONEVISION_CACHE", str(tmp_path_factory.mktemp("cache")))
        first = doors.ask_model(asked, files)
        seen = recorder.take()
        known = {prompt.name: one for prompt, one in zip(asked, seen, strict=True)}
        walked = {"Model.ask": Path(told=first, seen=known)}
        for name, door in {
            "ask": doors.ask_command,
            "eval": doors.evaluate,
            "serve: chat": doors.ask_server,
            "serve: responses": doors.ask_responses,
            "batch": doors.answer_batch,
            "train": partial(doors.train, answers=first, max_tokens=NARROW),
            "train, packed": partial(doors.train, answers=first, max_tokens=WIDE),
            "Model.ask bf16": partial(doors.ask_model, dtype="bfloat16"),
            "Model.ask int8": partial(doors.ask_model, dtype="bfloat16", quantize="int8"),
            "batch int8": partial(doors.answer_batch, quantize="int8"),
            "Model.ask int4": partial(doors.ask_model, dtype="bfloat16", quantize="int4"),
            "batch int4": partial(doors.answer_batch, quantize="int4"),
        }.items():
            walked[name] = walk(door)
    return walked


def _match(
    told: Answers, found: Mapping[tuple[tuple[int, ...], bytes], Seen], walked: Mapping[str, Path]
) -> dict[str, Seen]:
    """Finds the prompts of the first path, by ids and pixels, among what another was given."""
    reference = walked["Model.ask"].seen
    return {name: found[reference[name].key] for name in told if reference[name].key in found}


ENGINES = ("ask", "eval", "serve: chat", "serve: responses", "batch")
LEARNERS = ("train", "train, packed")
# A path in bfloat16 or with quantised weights, and the one that it is compared with.
QUANTISED = {
    "Model.ask bf16": "Model.ask bf16",
    "Model.ask int8": "Model.ask int8", "batch int8": "Model.ask int8",
    "Model.ask int4": "Model.ask int4", "batch int4": "Model.ask int4",
}  # fmt: skip


def is_asked(path: str, prompt: GatePrompt) -> bool:
    """Whether a door can express a prompt."""
    if path == "eval":
        return prompt.system is None and not prompt.is_short
    return path != "serve: responses" or prompt.video is None


def differences(paths: Mapping[str, Path], path: str, prompt: str) -> dict[str, float]:
    """Returns the largest difference of each kind between a path and what it is compared with."""
    own = paths[path].seen[prompt]
    other = paths[QUANTISED.get(path, "Model.ask")].seen[prompt]
    found = {"answer": float(own.answer[: len(other.answer)] != other.answer)}
    if path in LEARNERS:
        found["losses"] = _largest(own.logprobs, other.logprobs)
        return found
    rows = zip(own.logits, other.logits, strict=True)
    found["logits"] = max(float((a - b).abs().max()) for a, b in rows)
    return found


def _largest(own: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(own, other, strict=False))


@pytest.mark.parametrize("path", [*ENGINES, *LEARNERS, *QUANTISED])
def test_ids_and_pixels_are_the_same(paths, prompts, path):
    asked = [prompt.name for prompt in prompts[1] if is_asked(path, prompt)]
    assert sorted(paths[path].told) == sorted(asked)
    assert sorted(paths[path].seen) == sorted(asked), "these were given other ids or pixels"
    for name, told in paths[path].told.items():
        assert told.num_tokens in (None, len(paths["Model.ask"].seen[name].ids))


@pytest.mark.parametrize("path", [*ENGINES, *LEARNERS, *QUANTISED])
def test_logits_are_the_same(paths, path):
    most = BFLOAT16 if path in QUANTISED else TOLERANCE
    worst = {name: max(differences(paths, path, name).values()) for name in paths[path].seen}
    assert max(worst.values()) <= most, worst


@pytest.mark.parametrize("path", [*ENGINES, *QUANTISED])
def test_the_text_is_the_same(paths, path):
    other = paths[QUANTISED.get(path, "Model.ask")].told
    for name, told in paths[path].told.items():
        assert told.text == other[name].text != "", name


@pytest.mark.parametrize("path", ["serve: chat", "serve: responses", "batch"])
def test_reported_logprobs_are_those_of_the_logits(paths, path):
    for name, told in paths[path].told.items():
        assert told.logprobs == pytest.approx(paths[path].seen[name].logprobs, abs=REPORTED)


def test_rows_are_packed_where_they_are_said_to_be(paths):
    beside = {name: [s.packed_with for s in paths[name].seen.values()] for name in LEARNERS}
    assert max(beside["train"]) < len(beside["train"]) - 1
    assert set(beside["train, packed"]) == {len(beside["train, packed"]) - 1}


def test_quantised_weights_are_used(paths):
    for kind in ("int8", "int4"):
        quantised, whole = paths[f"Model.ask {kind}"].seen, paths["Model.ask bf16"].seen
        assert any(quantised[n].logprobs != whole[n].logprobs for n in whole)


def test_the_table(paths, prompts, capsys):
    names = [*ENGINES, *LEARNERS, *QUANTISED]
    width = max(len(prompt.name) for prompt in prompts[1])
    lines = [f"{'':{width}}  tokens  " + "  ".join(names)]
    for prompt in prompts[1]:
        cells = [_cell(paths, name, prompt).rjust(len(name)) for name in names]
        tokens = len(paths["Model.ask"].seen[prompt.name].ids)
        lines.append(f"{prompt.name:{width}}  {tokens:6}  " + "  ".join(cells))
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + f"\n{LEGEND}\n")
    assert not any(cell in line.split() for line in lines for cell in ("IDS", "TEXT"))


LEGEND = """\
=  ids, pixels, logits and text are those of Model.ask, bit for bit; a number is the largest
difference of a logit (train: of a log-probability), with ids, pixels and text the same; -  the door
cannot express it. int8, int4: beside Model.ask with the same weights."""


def _cell(paths: Mapping[str, Path], path: str, prompt: GatePrompt) -> str:
    if not is_asked(path, prompt):
        return "-"
    if prompt.name not in paths[path].seen:
        return "IDS"
    found = differences(paths, path, prompt.name)
    if found.pop("answer"):
        return "TEXT"
    worst = max(found.values())
    return f"{worst:.0e}" if worst else "="

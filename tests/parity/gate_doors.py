"""The doors of the parity gate: each asks all prompts as a user would and returns the answers."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import yaml
from typer.testing import CliRunner

from onevision import Model, load
from onevision.checkpoint.hub import BUNDLED
from onevision.cli import app
from onevision.serve.app import create_app
from onevision.serve.service import Service
from onevision.serve.settings import ServerSettings
from tests.parity.gate_prompts import MAX_TOKENS, GatePrompt

# Weights as they are, in the type whose results are compared.
WHOLE = ("--dtype", "float32")
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}
EVALUATION = {
    "title": "Gate", "groups": [], "dataset": "gate/gate", "split": "test", "prompt": "{question}",
    "max_new_tokens": MAX_TOKENS, "scorer": "exact_match",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a door tells the user about a prompt; None where it does not say."""

    text: str | None = None
    num_tokens: int | None = None  # of the prompt
    logprobs: tuple[float, ...] | None = None


Answers = Mapping[str, Told]  # by the prompt's name
Ask = Callable[[Sequence[GatePrompt], Path], Answers]


def ask_model(
    prompts: Sequence[GatePrompt],
    files: Path,
    *,
    dtype: str = "float32",
    quantize: str | None = None,
) -> Answers:
    """Asks by `Model.ask`, one conversation at a time."""
    loaded = load("tiny", dtype=dtype, quantize=quantize)
    return {prompt.name: _ask_model(loaded, prompt, files) for prompt in prompts}


def ask_command(prompts: Sequence[GatePrompt], files: Path) -> Answers:
    """Asks by `onevision ask`, a command per prompt."""
    answers = {}
    for prompt in prompts:
        media = [word for name in prompt.images for word in ("-i", files / name)]
        media += ["-v", files / prompt.video] if prompt.video else []
        media += ["--system", prompt.system] if prompt.system else []
        said = json.loads(run(
            "ask", prompt.question, *media, "--max-new-tokens", MAX_TOKENS, "--json", *WHOLE
        ))  # fmt: skip
        told = Told(text=said["text"], num_tokens=said["usage"]["prompt_tokens"])
        answers[prompt.name] = told
    return answers


def evaluate(prompts: Sequence[GatePrompt], files: Path) -> Answers:
    """Asks by `onevision eval --tasks`, as two benchmarks: pictures and videos.

    The rows of a benchmark have no system line, so prompts with one are not asked; nor are clips
    shorter than 32 frames, of which an evaluation repeats frames (FIDELITY, `eval/rows.py`).
    """
    asked = [prompt for prompt in prompts if prompt.system is None and not prompt.is_short]
    kinds = {
        "pictures": ([p for p in asked if not p.video], {"images": ["image"],
                                                         "images_optional": True}),
        "videos": ([p for p in asked if p.video], {"video": ["{video}"]}),
    }  # fmt: skip
    for name, (own, keys) in kinds.items():
        (files / f"{name}.yaml").write_text(yaml.safe_dump(EVALUATION | keys))
        (files / name).mkdir()
        rows = [{"question": prompt.marked, "answer": "?", "image": list(prompt.images),
                 "video": prompt.video} for prompt in own]  # fmt: skip
        (files / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for file in {file for p in own for file in (*p.images, p.video) if file}:
            (files / name / file).hardlink_to(files / file)
    tasks = ",".join(str(files / f"{name}.yaml") for name in kinds)
    run("eval", "--tasks", tasks, "--data", files, "--output", files / "evaluated", *WHOLE)
    answers = {}
    for name, (own, _) in kinds.items():
        for line in _read_lines(files / "evaluated" / name / "answers.jsonl"):
            answers[own[line["row"]].name] = Told(text=line["answer"])
    return answers


def ask_server(prompts: Sequence[GatePrompt], files: Path) -> Answers:
    """Asks the server's chat completions."""
    bodies = [chat_body(prompt, files) for prompt in prompts]
    answers = _post(CHAT, bodies)
    return {p.name: _read_chat(body) for p, body in zip(prompts, answers, strict=True)}


def ask_responses(prompts: Sequence[GatePrompt], files: Path) -> Answers:
    """Asks the server's Responses API, which takes no videos."""
    asked = [prompt for prompt in prompts if not prompt.video]
    bodies = _post(RESPONSES, [_responses_body(prompt, files) for prompt in asked])
    answers = {}
    for prompt, body in zip(asked, bodies, strict=True):
        (message,) = body["output"]
        (part,) = message["content"]
        answers[prompt.name] = Told(
            text=part["text"].strip(),
            num_tokens=body["usage"]["input_tokens"],
            logprobs=tuple(token["logprob"] for token in part["logprobs"]),
        )
    return answers


def answer_batch(
    prompts: Sequence[GatePrompt], files: Path, *, quantize: str | None = None
) -> Answers:
    """Asks by `onevision batch`, several requests at a time."""
    name = f"requests-{quantize}"
    lines = [
        {"custom_id": p.name, "method": "POST", "url": CHAT, "body": chat_body(p, files)}
        for p in prompts
    ]
    (files / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    more = ("--quantize", quantize, "--dtype", "bfloat16") if quantize else WHOLE
    run("batch", files / f"{name}.jsonl", "-o", files / f"{name}-answered.jsonl", *more)
    answered = _read_lines(files / f"{name}-answered.jsonl")
    return {line["custom_id"]: _read_chat(line["response"]["body"]) for line in answered}


def train(
    prompts: Sequence[GatePrompt], files: Path, *, answers: Answers, max_tokens: int
) -> Answers:
    """Learns the answers by `onevision train`, in one step.

    `max_tokens` is of a packed row, so that it decides how many samples share one.
    """
    records = []
    for prompt in prompts:
        system = [{"from": "system", "value": prompt.system}] if prompt.system else []
        turns = [*system, {"from": "human", "value": prompt.marked},
                 {"from": "gpt", "value": answers[prompt.name].text}]  # fmt: skip
        media = {"image": list(prompt.images)} if prompt.images else {}
        media |= {"video": prompt.video} if prompt.video else {}
        records.append({"id": prompt.name, "conversations": turns, **media})
    (files / "records.json").write_text(json.dumps(records))
    settings = {"precision": "fp32", "num_workers": 0, "global_batch": len(prompts),
                "max_tokens": max_tokens, "device": "cpu"}  # fmt: skip
    told = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run("train", "onevision", "--model", "tiny", "--from", BUNDLED["tiny"], "--mixture",
        files / "records.json", "-o", files / f"run-{max_tokens}", *told)  # fmt: skip
    return {prompt.name: Told() for prompt in prompts}


def run(*arguments: object) -> str:
    """Runs the command line in this process, where the recorder is; returns its output."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def chat_body(prompt: GatePrompt, files: Path) -> dict[str, object]:
    """Returns the body of a chat completion."""
    content = [
        {"type": "image_url", "image_url": {"url": _data_url(files / name)}}
        for name in prompt.images
    ]
    if prompt.video:
        url = _data_url(files / prompt.video)
        content.append({"type": "video_url", "video_url": {"url": url}})
    content.append({"type": "text", "text": prompt.question})
    messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
    messages.append({"role": "user", "content": content})
    return {"model": "tiny", "messages": messages, "max_tokens": MAX_TOKENS, "logprobs": True}


def _responses_body(prompt: GatePrompt, files: Path) -> dict[str, object]:
    content = [
        {"type": "input_image", "image_url": _data_url(files / name)} for name in prompt.images
    ]
    content.append({"type": "input_text", "text": prompt.question})
    body = {
        "model": "tiny",
        "input": [{"role": "user", "content": content}],
        "max_output_tokens": MAX_TOKENS,
        "include": ["message.output_text.logprobs"],
    }
    return body | ({"instructions": prompt.system} if prompt.system else {})


def _ask_model(model: Model, prompt: GatePrompt, files: Path) -> Told:
    reply = model.ask(
        prompt.question,
        images=[files / name for name in prompt.images],
        videos=[files / prompt.video] if prompt.video else [],
        system=prompt.system or "",
        max_new_tokens=MAX_TOKENS,
    )
    return Told(text=reply.text, num_tokens=reply.usage.prompt_tokens)


def _post(path: str, bodies: Sequence[dict[str, object]]) -> list[dict]:
    """Posts bodies to an application of its own, all at the same time."""

    async def send_all() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await asyncio.gather(*(http.post(path, json=body) for body in bodies))

    with closing(Service(load("tiny", dtype="float32"), ServerSettings(name="tiny"))) as service:
        answers = asyncio.run(send_all())
    assert {answer.status_code for answer in answers} == {200}, [a.text[:300] for a in answers]
    return [answer.json() for answer in answers]


def _read_chat(body: dict) -> Told:
    (choice,) = body["choices"]
    return Told(
        text=choice["message"]["content"].strip(),
        num_tokens=body["usage"]["prompt_tokens"],
        logprobs=tuple(token["logprob"] for token in choice["logprobs"]["content"]),
    )


def _data_url(path: Path) -> str:
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]

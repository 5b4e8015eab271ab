"""Several adapters on one model, served by name: each answers as if it were loaded alone."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
import torch
from PIL import Image as PIL

from onevision import Conversation, Image, Message, Text, load
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.generate.variants import load_variants
from onevision.train.lora.files import save_adapter
from onevision.train.lora.layers import LoraConfig, add_lora, lora_parameters
from tests.cli.conftest import run
from tests.serve.conftest import CHAT, encoded, image_part, square, start, stop, text_part, user

QUESTION = "What colour is the square?"
PARTS = {"words": "language_model", "sight": "vision_encoder"}
NOISE = {"words": 0.1, "sight": 0.3}
NAMES = ("tiny", "tiny:words", "tiny:sight")
BODY = {"messages": user(image_part(), text_part(QUESTION)), "max_tokens": 8}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """One that changes the language model of `tiny`, one that changes its vision encoder."""
    found = {}
    for seed, (name, part) in enumerate(PARTS.items()):
        network = load_network(inspect(BUNDLED["tiny"]), dtype=torch.float32)
        config = LoraConfig(rank=4, alpha=8, parts=(part,))
        add_lora(network, config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in lora_parameters(network):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * NOISE[name])
        found[name] = tmp_path_factory.mktemp(name)
        save_adapter(network, config, found[name], base_model="tiny")
    return found


@pytest.fixture(scope="module")
def expected(adapters):
    """What each model answers when it is loaded alone."""
    picture = PIL.open(io.BytesIO(encoded(square())))
    talk = Conversation([Message("user", [Image(picture), Text(QUESTION)])])
    models = {"tiny": load("tiny", dtype="float32")}
    models |= {
        f"tiny:{n}": load("tiny", adapter=path, dtype="float32") for n, path in adapters.items()
    }
    return {name: model.ask(talk, max_new_tokens=8).text for name, model in models.items()}


@pytest.fixture(scope="module")
def http(adapters, tmp_path_factory):
    options = [o for n, path in adapters.items() for o in ("--adapter", f"{n}={path}")]
    # Which changes no answer but for ties, that bf16 has and fp32 has not.
    options += ["--draft", "tiny", "--dtype", "float32"]
    running = start(tmp_path_factory.mktemp("server"), "--model", "tiny", *options)
    log = running.log.read_text()
    assert all(f"adapter {name}: " in log for name in adapters) and " MiB beside" in log
    with httpx2.Client(base_url=running.url, timeout=120) as client:
        yield client
    assert stop(running) == 0


def ask(http, name):
    answer = http.post(CHAT, json=BODY | {"model": name}).json()
    assert answer["model"] == name
    return answer["choices"][0]["message"]["content"].strip()


def test_every_name_answers_as_if_it_were_alone(http, expected):
    assert len(set(expected.values())) == 3  # each adapter matters
    assert {name: ask(http, name) for name in NAMES} == expected


def test_a_draft_model_guesses_for_every_name(http, expected):
    def drafted():
        lines = http.get("/metrics").text.splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("onevision:draft"))
        return [float(found[f"onevision:draft_tokens{kind}"]) for kind in ("", "_accepted")]

    for name, text in expected.items():
        before = drafted()
        assert ask(http, name) == text
        after = drafted()
        assert after[0] > before[0] and before[1] <= after[1] <= after[0]
    assert after[1] > 0


def test_names_asked_at_once_do_not_disturb_each_other(http, expected):
    names = NAMES * 4
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda name: ask(http, name), names))
    assert answers == [expected[name] for name in names]


def test_the_same_in_the_responses_api_and_as_a_stream(http, expected):
    content = [{"type": "input_image", "image_url": image_part()["image_url"]["url"]},
               {"type": "input_text", "text": QUESTION}]  # fmt: skip
    body = {"input": [{"role": "user", "content": content}], "max_output_tokens": 8}
    for name in NAMES:
        answer = http.post("/v1/responses", json=body | {"model": name}).json()
        assert answer["model"] == name
        assert answer["output"][0]["content"][0]["text"].strip() == expected[name]
        with http.stream("POST", CHAT, json=BODY | {"model": name, "stream": True}) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line][:-1]
        chunks = list(map(json.loads, lines))
        assert {chunk["model"] for chunk in chunks} == {name}
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        assert text.strip() == expected[name]


def test_models_are_listed_and_others_are_unknown(http):
    assert [card["id"] for card in http.get("/v1/models").json()["data"]] == list(NAMES)
    assert http.get("/v1/models/tiny:sight").json()["id"] == "tiny:sight"
    for name in ("tiny:other", "words", "tiny:"):
        answer = http.post(CHAT, json=BODY | {"model": name})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert "ask for 'tiny', 'tiny:words', 'tiny:sight'" in answer.json()["error"]["message"]


def test_prompts_of_each_name_have_fingerprints_of_their_own(http):
    found = {http.post(CHAT, json=BODY | {"model": n}).json()["system_fingerprint"] for n in NAMES}
    assert len(found) == 3


def test_a_batch_asks_them_by_name(adapters, expected, tmp_path):
    lines = [{"custom_id": n, "method": "POST", "url": CHAT, "body": BODY | {"model": n}}
             for n in (*NAMES, "tiny:other")]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = [o for n, path in adapters.items() for o in ("--adapter", f"{n}={path}")]
    done = run("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", *options)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = {a["custom_id"]: a["response"] for a in answers}
    assert found.pop("tiny:other")["status_code"] == 404
    assert {a["status_code"] for a in found.values()} == {200}, found
    texts = {n: a["body"]["choices"][0]["message"]["content"].strip() for n, a in found.items()}
    assert texts == expected


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_layers_that_an_adapter_leaves_alone_are_held_once(adapters, quantize):
    base = load("tiny", quantize=quantize)
    variants = load_variants(base, "tiny", adapters, quantize=quantize)
    theirs = {id(module) for module in base.network.modules()}
    for name, part in (("words", "vision_encoder"), ("sight", "language_model")):
        network = variants[name].model.network
        leaves = [m for m in network.get_submodule(part).modules() if not list(m.children())]
        assert all(id(leaf) in theirs for leaf in leaves)
    assert variants["sight"].own_bytes < variants["words"].own_bytes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a=/nowhere"], "adapter /nowhere: there is no such directory"),
        (["/nowhere"], "adapter /nowhere: there is no such directory"),
        (["/a", "/b"], "--adapter names 2 adapters for the model itself; give them names"),
        (["a b=/x"], "--adapter is 'a b=/x'; expected NAME=DIR"),
        (["a=/x", "a=/y"], "--adapter is 'a=/y'; expected NAME=DIR with a name of its own"),
    ],
)
def test_wrong_adapters_are_one_line_before_a_model_is_loaded(values, message):
    from onevision.cli.options import load_variants as open_variants
    from onevision.errors import OneVisionError

    with pytest.raises(OneVisionError, match=message):
        open_variants("no-such-model", values, device="cpu", dtype="auto")

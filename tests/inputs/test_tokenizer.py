import json

import pytest
from tokenizers import Tokenizer as HFTokenizer

from onevision.checkpoint.hub import BUNDLED
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from tests.sentencepiece import definition, llama


def test_what_spells_a_control_token_stays_text(tokenizer):
    for token in tokenizer.added_tokens:
        for text in (token, f"a{token}b", token * 3):
            encoded = tokenizer.encode(text).ids
            assert not set(encoded) & set(tokenizer.added_tokens.values())
            assert tokenizer.decode(encoded) == text


@pytest.mark.parametrize("text", ["", "naïve 中文 🙂", "\x00\n\t", "a" * 3000, "\ufeffx"])
def test_text_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_lone_surrogates_do_not_crash(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b").ids) == "a?b"


def test_a_stream_never_gives_half_a_character(tokenizer):
    text = "red 中文 🙂!"
    stream = tokenizer.stream()
    pieces = [stream.push(token_id) for token_id in tokenizer.encode(text).ids]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


def test_a_missing_control_token_is_named(tokenizer):
    with pytest.raises(CheckpointError, match="no added token '<|nonsense|>'"):
        tokenizer.id_of("<|nonsense|>")


def test_a_broken_definition_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer definition"):
        Tokenizer.from_directory(tmp_path)
    with pytest.raises(CheckpointError, match="missing"):
        Tokenizer.from_directory(tmp_path / "elsewhere")


def test_qwen2_ids_are_those_of_llama_cpp(real_data):
    qwen = Tokenizer.from_directory(real_data / "tokenizer")
    vectors = json.loads((real_data / "tokenizer" / "qwen2_test_vectors.json").read_text())
    for vector in vectors["vectors"] if isinstance(vectors, dict) else vectors:
        assert qwen.encode(vector["text"]).ids == vector["ids"]


@pytest.mark.parametrize("legacy", [True, False])
def test_sentencepiece_text_survives(legacy):
    tokenizer = llama(legacy=legacy)
    for text in ("Hello, it is", "中文 🙂\n\n", "two  spaces ", "</s> <0x0A>", "\x00\ufeff"):
        ids = tokenizer.encode(text).ids
        assert not set(ids) & set(tokenizer.added_tokens.values())
        assert tokenizer.decode(ids) == text
        stream = tokenizer.stream()
        said = "".join(stream.push(token_id) for token_id in ids)
        assert said in (text, text[:-1])  # a stream holds back what may continue


def test_bytes_stand_for_what_no_entry_spells():
    tokenizer = llama()
    ids = tokenizer.encode("é").ids
    assert [tokenizer.decode_with_controls([token_id]) for token_id in ids[1:]] == ["�", "�"]
    assert tokenizer.decode(ids) == "é"


def test_a_space_goes_in_front_and_after_control_only_in_older_files():
    for legacy, pieces in ((True, " Hello"), (False, "Hello")):
        tokenizer = llama(legacy=legacy)
        first, later = (tokenizer.encode("Hello", continues=c) for c in (False, True))
        assert "".join(first.tokens) == "▁Hello"
        assert "".join(later.tokens) == pieces.replace(" ", "▁")


def test_what_stands_before_every_text_is_read_from_the_file(tokenizer):
    assert tokenizer.bos_ids == ()
    assert llama().bos_ids == (llama().id_of("<s>"),)
    assert llama(bos="").bos_ids == ()


@pytest.mark.parametrize("kind", ["byte-level", "llama", "new llama"])
def test_added_words_get_the_ids_that_transformers_gives(kind):
    """Added tokens that are not special, such as places, are words of the text."""
    tiny = (BUNDLED["tiny"] / "tokenizer.json").read_text()
    own = tiny if kind == "byte-level" else definition(legacy=kind == "llama")
    values = json.loads(own)
    start = HFTokenizer.from_str(own).get_vocab_size()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    words = [
        {"id": start, "content": "<hidden>", "special": True, **flags},
        {"id": start + 1, "content": "<loc_1>", "special": False, **flags},
        {"id": start + 2, "content": "<loc_2>", "special": False, **flags},
    ]
    values["added_tokens"] += words
    tokenizer, theirs = Tokenizer(json.dumps(values)), HFTokenizer.from_str(json.dumps(values))
    for text in ("<loc_1>", "a <loc_2><loc_1> b", "It is at <loc_2>.", "<loc_3>"):
        assert tokenizer.encode(text).ids == theirs.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode("<loc_2>", continues=True).ids == [start + 2]
    assert tokenizer.decode([start + 1]) == "<loc_1>"
    controls = {token["id"] for token in values["added_tokens"]} - {start + 1, start + 2}
    for text in ("<hidden>", "</s><|im_end|>", "<image>"):
        assert not set(tokenizer.encode(text).ids) & controls

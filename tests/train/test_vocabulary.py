import json

from onevision.data.mixture import open_mixture
from onevision.inputs.tokenizer import Tokenizer
from onevision.train.vocabulary import CONTROL_TOKENS, mixture_texts, train_tokenizer


def test_a_tokenizer_learns_words_and_keeps_its_control_tokens():
    definition = train_tokenizer(["a red circle\n"] * 50, vocab_size=300)
    tokenizer = Tokenizer(definition)
    assert tokenizer.added_tokens == {token: i for i, token in enumerate(CONTROL_TOKENS)}
    assert len(tokenizer.encode("a red circle").ids) == 3
    assert tokenizer.decode(tokenizer.encode("Größe 漢字").ids) == "Größe 漢字"


def test_digits_stand_alone():
    tokenizer = Tokenizer(train_tokenizer(["1234 1234"] * 50, vocab_size=300))
    assert tokenizer.encode("1234").tokens == ["1", "2", "3", "4"]


def test_the_embedded_tokenizer_knows_its_world(tokenizer):
    assert tokenizer.size == 4096
    assert len(tokenizer.encode("What colour is the circle?").ids) == 6


def test_the_texts_of_a_mixture_are_read_turn_by_turn(tmp_path):
    talk = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "书"}]
    records = [{"image": "a.png", "conversations": talk}]
    (tmp_path / "a.json").write_text(json.dumps(records))
    texts = list(mixture_texts(open_mixture(tmp_path / "a.json")))
    assert "".join(texts) == "\nWhat is this?书"

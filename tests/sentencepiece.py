"""Tokenizers of LLaMA's kind, trained here: byte fallback, "▁" for spaces, one in front."""

import json
from functools import cache

from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from onevision.inputs.tokenizer import Tokenizer

BYTES = [f"<0x{number:02X}>" for number in range(256)]
LLAMA = ("<unk>", "<s>", "</s>")
LLAMA_3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
CORPUS = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: What is this? ASSISTANT: "
    "[INST] Hello, it is a red ring. [/INST] <<SYS>> a human system <</SYS>>\n### Human: s> </ s>",
) * 20


@cache
def definition(*, legacy: bool = True, controls: tuple[str, ...] = (), bos: str = "<s>") -> str:
    """The text of a tokenizer.json; `legacy` puts a space before every text after a mark too."""
    tokenizer = HFTokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=[*LLAMA, *BYTES, *controls],
            show_progress=False,
        ),
    )
    if legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        tokenizer.pre_tokenizer = None
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = [t for t in values["added_tokens"] if t["content"] not in BYTES]
    for token in values["added_tokens"]:
        token["normalized"] = False
    model = values["model"]
    # As converters write it: where both halves are entries, so is a merge of them.
    for left, right in (("<", "/"), ("s", ">"), ("</", "s>")):
        model["vocab"].setdefault(left + right, len(model["vocab"]))
        model["merges"].append([left, right])
    return json.dumps(values)


def llama(**how: object) -> Tokenizer:
    """Such a tokenizer, as the package reads it."""
    return Tokenizer(definition(**how), name="llama/tokenizer.json")


def raw(**how: object) -> HFTokenizer:
    """The same, as it is."""
    return HFTokenizer.from_str(definition(**how))

"""GGUF file -> a checkpoint of its language model in floats, as LLaMA's are released."""

from pathlib import Path

from onevision.checkpoint.files import SINGLE, new_directory, save_tensors
from onevision.checkpoint.names import ALONE
from onevision.checkpoint.parts.gguf_file import read_gguf
from onevision.checkpoint.write_config import text_values
from onevision.files import write_json


def write_floats(source: Path, destination: Path) -> int:
    """Writes a GGUF file's language model as safetensors, with its config and tokenizer.

    The names are those of LLaMA's released checkpoints, the numbers fp32, which holds them exactly.
    Returns the number of tensors. Raises CheckpointError.
    """
    model = read_gguf(source)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    with new_directory(destination) as partial:
        tensors = {ALONE.translate(name): one.read() for name, one in model.tensors.items()}
        save_tensors(tensors, partial / SINGLE, metadata={"format": "pt"})
        write_json(partial / "config.json", config | text_values(model.language, "qwen_1_5"))
        write_json(partial / "generation_config.json", {"eos_token_id": model.end_id})
        (partial / "tokenizer.json").write_text(model.tokenizer, encoding="utf-8")
        (partial / "chat_template.jinja").write_text(model.chat_template, encoding="utf-8")
    return len(model.tensors)

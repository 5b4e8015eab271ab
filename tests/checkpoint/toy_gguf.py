"""A LLaMA of one block as a GGUF file."""

import numpy as np

WIDTH, HIDDEN, HEADS, GROUPS = 64, 96, 4, 2


def write(path, add=lambda writer: None):
    """Writes a LLaMA of one block in Q4_1, Q8_0 and F32; returns the numbers that it holds."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_context_length(128)
    writer.add_rope_freq_base(1e5)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = ["<|im_end|>", "<|im_start|>", "a", "b", "ab", "\u0120"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    add(writer)
    sizes = {
        "token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,), "blk.0.attn_norm": (WIDTH,),
        "blk.0.attn_q": (WIDTH, WIDTH), "blk.0.attn_k": (32, WIDTH), "blk.0.attn_v": (32, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH), "blk.0.ffn_norm": (WIDTH,),
        "blk.0.ffn_gate": (HIDDEN, WIDTH), "blk.0.ffn_up": (HIDDEN, WIDTH),
        "blk.0.ffn_down": (WIDTH, HIDDEN),
    }  # fmt: skip
    rng, held = np.random.default_rng(0), {}
    for name, shape in sizes.items():
        values = rng.standard_normal(shape, dtype=np.float32)
        kind = gguf.GGMLQuantizationType.F32
        if len(shape) == 2:
            q8 = gguf.GGMLQuantizationType.Q8_0
            kind = q8 if name == "token_embd" else gguf.GGMLQuantizationType.Q4_1
        blocks = gguf.quants.quantize(values, kind)
        held[name] = gguf.quants.dequantize(blocks, kind)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held

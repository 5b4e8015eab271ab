#!/usr/bin/env bash
# The embedded model, from nothing: tokenizer, two stages that make pretrained parts, then the
# paper's four. Output: runs/tiny/onevision/checkpoint. See docs/log.md for times and accuracies.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-runs/tiny}"
# Two processes of one thread each outrun one of two.
run() {
    .venv/bin/torchrun --nproc-per-node 2 -m onevision train "$@" --tokenizer "$out/tokenizer.json"
}

.venv/bin/onevision train tokenizer --output "$out"
run vision --output "$out/vision"
run language --output "$out/language"
run align --output "$out/align" \
    --from "$out/vision/checkpoint" --from "$out/language/checkpoint"
run knowledge --output "$out/knowledge" --from "$out/align/checkpoint"
run single_image --output "$out/single_image" --from "$out/knowledge/checkpoint"
run onevision --output "$out/onevision" --from "$out/single_image/checkpoint"

.venv/bin/onevision eval --model "$out/onevision/checkpoint"

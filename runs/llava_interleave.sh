#!/usr/bin/env bash
# Trains LLaVA-NeXT-Interleave (arXiv 2407.07895): the projector, single images, then M4-Instruct with
# several. Its single-image model is not released, so all stages run. Output: OUTPUT/interleave/checkpoint.
#
#     LANGUAGE_MODEL=Qwen1.5-7B-Chat VISION_ENCODER=siglip runs/llava_interleave.sh OUTPUT [0.5b|7b]
#     PLAN=1 runs/llava_interleave.sh OUTPUT
#     ONEVISION_DRY_RUN=1 runs/llava_interleave.sh OUTPUT
#
# For the other variables see runs/further.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:?give the output directory}" size="${2:-7b}"
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    .venv/bin/onevision synth write "$out/toy" --family pairs --count 4
    export TOY="$out/toy/pairs.json"
fi
runs/further.sh "llava-interleave-$size" "$out" "" \
    align:llava_1.5_align.yaml instruct:llava_next_instruct.yaml interleave:llava_interleave.yaml \
    -- --set device=cuda --set sharing=shard --set recompute=true

#!/usr/bin/env bash
# Trains LLaVA-Video (arXiv 2410.02713) from the single-image model of OneVision: 64 frames a video at
# 7B, 32 at 72B, told when they are shown. Output: OUTPUT/video/checkpoint.
#
#     runs/llava_video.sh OUTPUT [7b|72b]
#     PLAN=1 runs/llava_video.sh OUTPUT
#     ONEVISION_DRY_RUN=1 runs/llava_video.sh OUTPUT
#
# START is another checkpoint to begin with. For the other variables see runs/further.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:?give the output directory}" size="${2:-7b}"
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    .venv/bin/onevision synth write "$out/toy" --family clips --count 4
    export TOY="$out/toy/clips.json"
fi
runs/further.sh "llava-video-$size" "$out" "${START:-lmms-lab/llava-onevision-qwen2-$size-si}" \
    video:llava_video.yaml -- --set device=cuda --set sharing=shard --set recompute=true

#!/usr/bin/env bash
# Trains LLaVA-Critic (arXiv 2410.02712), which grades answers, from a finished OneVision model.
# Output: OUTPUT/critic/checkpoint, a critic for `onevision prefer --critic` and a judge for
# `onevision eval --judge`.
#
#     runs/llava_critic.sh OUTPUT [7b|72b]
#     PLAN=1 runs/llava_critic.sh OUTPUT
#     ONEVISION_DRY_RUN=1 runs/llava_critic.sh OUTPUT
#
# START is another checkpoint to begin with. For the other variables see runs/further.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:?give the output directory}" size="${2:-7b}"
declare -A released=([7b]=lmms-lab/llava-onevision-qwen2-7b-ov [72b]=lmms-lab/llava-onevision-qwen2-72b-ov-sft)
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    .venv/bin/python runs/critic_data.py "$out/toy" --samples 4
    export TOY="$out/toy/llava_critic.yaml"
fi
runs/further.sh "llava-critic-$size" "$out" "${START:-${released[$size]}}" \
    critic:llava_critic.yaml -- --set device=cuda --set sharing=shard --set recompute=true

#!/usr/bin/env bash
# LLaVA-OneVision 7B: weights, gradients and moments divided among 8 devices or more (FSDP2).
# What to set: see runs/published.sh.
set -euo pipefail
"$(dirname "$0")/published.sh" 7b "${1:?give the output directory}" \
    --set device=cuda --set sharing=shard --set recompute=true

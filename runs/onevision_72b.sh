#!/usr/bin/env bash
# LLaVA-OneVision 72B: divided among 64 devices, on several machines, each started with
#     TORCHRUN="torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500"
# What else to set: see runs/published.sh.
set -euo pipefail
"$(dirname "$0")/published.sh" 72b "${1:?give the output directory}" \
    --set device=cuda --set sharing=shard --set recompute=true

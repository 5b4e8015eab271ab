#!/usr/bin/env bash
# Trains LLaVA-OneVision 72B, sharded over 64 devices on several machines. Start each machine with
#     TORCHRUN="torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500"
# For the other variables see runs/published.sh.
set -euo pipefail
"$(dirname "$0")/published.sh" 72b "${1:?give the output directory}" \
    --set device=cuda --set sharing=shard --set recompute=true "${@:2}"

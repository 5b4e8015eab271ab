#!/usr/bin/env bash
# Trains LLaVA-OneVision 7B on 8 or more devices, with weights, gradients and optimiser state sharded
# (FSDP2). For its variables see runs/published.sh.
set -euo pipefail
"$(dirname "$0")/published.sh" 7b "${1:?give the output directory}" \
    --set device=cuda --set sharing=shard --set recompute=true "${@:2}"

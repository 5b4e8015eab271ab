#!/usr/bin/env bash
# Trains LLaVA-OneVision 0.5B on one machine with 8 devices. For its variables see runs/published.sh.
set -euo pipefail
"$(dirname "$0")/published.sh" 0.5b "${1:?give the output directory}" \
    --set device=cuda --set recompute=true "${@:2}"

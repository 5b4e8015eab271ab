#!/usr/bin/env bash
# Trains the embedded model further to read: letters in a dozen typeface styles, then everything again
# with charts. Meanwhile it asks held-out questions (eval.jsonl): words in an unseen typeface, values of
# charts. Output: OUTPUT/onevision_reading/checkpoint. docs/log.md has times and accuracies.
#
#     runs/tiny_reading.sh OUTPUT [CHECKPOINT]       75 minutes on 2 cores without bf16, alongside other work
#     ONEVISION_DRY_RUN=1 runs/tiny_reading.sh OUTPUT
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-runs/tiny_reading}"
start="${2:-onevision/assets/tiny}"

launch=(.venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" -m onevision)
options=(--model tiny --tokenizer "$start/tokenizer.json")
asked=(--set eval_steps=75 --set eval_questions=80 --set "eval_scenarios=single_image,multi_image,video,words,charts")
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    options+=(--set num_samples=16 --set global_batch=8)
    asked=()
fi

"${launch[@]}" train letters "${options[@]}" --output "$out/letters" --from "$start"
"${launch[@]}" train onevision_reading "${options[@]}" "${asked[@]}" --output "$out/onevision_reading" \
    --from "$out/letters/checkpoint"

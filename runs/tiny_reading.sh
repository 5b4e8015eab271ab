#!/usr/bin/env bash
# Reading, after the bundled model: letters in a dozen typefaces, then everything again, with charts. It asks
# held-out questions on the way (eval.jsonl): words in a face it never saw, values of charts. Output:
# $1/onevision_reading/checkpoint. See docs/log.md for times and accuracies.
#
#     runs/tiny_reading.sh OUTPUT [CHECKPOINT]       75 minutes on 2 cores without bf16, beside other work
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

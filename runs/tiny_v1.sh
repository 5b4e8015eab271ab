#!/usr/bin/env bash
# Trains a model like the embedded one from scratch: a tokenizer, two stages that take the place of
# pretrained parts, the paper's four stages, and the last one twice more. 2 h 15 min on 2 cores beside
# other work. Output: OUTPUT/onevision_clips/checkpoint. docs/log.md has times and accuracies per stage.
#
#     runs/tiny_v1.sh OUTPUT
#     PLAN=1 runs/tiny_v1.sh OUTPUT                  print what each stage costs; train nothing
#     ONEVISION_DRY_RUN=1 runs/tiny_v1.sh OUTPUT     run every stage on 16 samples
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-runs/tiny}"

# Two processes with one thread each are faster than one with two.
launch=(.venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" -m onevision)
options=(--model tiny --tokenizer "$out/tokenizer.json")
if [[ "${PLAN:-0}" == 1 ]]; then
    launch=(.venv/bin/onevision)
    options+=(--plan)
fi
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    options+=(--set num_samples=16 --set global_batch=8)
fi

stage() { # NAME, STAGES TO START FROM...
    local name="$1" from=()
    for start in "${@:2}"; do
        from+=(--from "$out/$start/checkpoint")
    done
    "${launch[@]}" train "$name" "${options[@]}" --output "$out/$name" "${from[@]}"
}

.venv/bin/onevision train tokenizer --output "$out"
stage vision
stage language
stage align vision language
stage knowledge align
stage single_image knowledge
stage onevision single_image
stage onevision_more onevision
stage onevision_clips onevision_more

if [[ "${PLAN:-0}${ONEVISION_DRY_RUN:-0}" == 00 ]]; then
    .venv/bin/onevision eval --model "$out/onevision_clips/checkpoint"
fi

#!/usr/bin/env bash
# Trains a model of the family further, stage by stage. Called by runs/llava_*.sh.
#
#     runs/further.sh MODEL OUTPUT START STAGE:MIXTURE... [-- options of `onevision train`...]
#
#     START     the checkpoint, or hub id, that the first stage begins with; "" begins with parts, then
#               LANGUAGE_MODEL and VISION_ENCODER are their directories
#     DATA      a directory with copies of the mixtures whose json_path point to your records; by default
#               onevision/mixtures/, without records
#     TORCHRUN  the launch command, for example for several machines
#     PLAN=1    print what each stage costs; train nothing
#     ONEVISION_DRY_RUN=1    run the stages that begin with a model on the embedded tiny one, on TOY, a
#               file of records
set -euo pipefail
cd "$(dirname "$0")/.."
model="$1" out="$2" start="$3" stages=() options=()
shift 3
while (($#)) && [[ "$1" != -- ]]; do stages+=("$1"); shift; done
(($#)) && options=("${@:2}")

read -ra launch <<< "${TORCHRUN:-.venv/bin/torchrun --nproc-per-node gpu} -m onevision"
[[ "${PLAN:-0}" == 1 ]] && launch=(.venv/bin/onevision)
if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    launch=(.venv/bin/onevision)
    options=(--set max_tokens=4096 --set global_batch=8)
    [[ -n "$start" ]] || stages=("${stages[@]:1}")
    start=onevision/assets/tiny
fi

for pair in "${stages[@]}"; do
    stage="${pair%%:*}" data="${DATA:-onevision/mixtures}/${pair#*:}"
    where=(--from "$start")
    [[ -n "$start" ]] ||
        where=(--language-model "${LANGUAGE_MODEL:-}" --vision-encoder "${VISION_ENCODER:-}")
    [[ "${PLAN:-0}" == 1 ]] && where=(--plan)
    [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]] && data="$TOY"
    "${launch[@]}" train "$stage" --model "$model" --mixture "$data" --output "$out/$stage" \
        "${where[@]}" "${options[@]}"
    start="$out/$stage/checkpoint"
done

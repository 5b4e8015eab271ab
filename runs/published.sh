#!/usr/bin/env bash
# Trains the paper's four stages (arXiv 2408.03326, table 1) at one size. Called by runs/onevision_*.sh.
#
#     runs/published.sh SIZE OUTPUT [options of `onevision train`...]
#
#     LANGUAGE_MODEL, VISION_ENCODER    directories: Qwen2-Instruct and SigLIP-so400m, as released
#     DATA                              a directory with align.yaml, knowledge.yaml, ..., whose json_path
#                                       point to your records; by default onevision/mixtures/, without records
#     TORCHRUN                          the launch command, for example for several machines
#     STAGES                            some of the four, in order; by default all
#     SNAPSHOTS                         an address such as s3://bucket/runs/a; each stage has a folder there
#     TENSORBOARD=1                     also write TensorBoard files
#     ONEVISION                         the command that plans, by default .venv/bin/onevision
#     PLAN=1                            print what each stage costs; train nothing
#     ONEVISION_DRY_RUN=1               run the same stages on the embedded tiny model, on 16 samples
set -euo pipefail
cd "$(dirname "$0")/.."
size="$1" out="$2" options=("${@:3}")

if [[ "${ONEVISION_DRY_RUN:-0}" == 1 ]]; then
    size=tiny
    LANGUAGE_MODEL=onevision/assets/tiny
    VISION_ENCODER=onevision/assets/tiny
    TORCHRUN="${TORCHRUN:-.venv/bin/torchrun --nproc-per-node 2}"
    options=(--tokenizer onevision/assets/tiny/tokenizer.json)
    options+=(--set num_samples=16 --set global_batch=8)
fi

if [[ "${PLAN:-0}" != 1 ]]; then
    : "${LANGUAGE_MODEL:?name the directory of Qwen2-Instruct}"
    : "${VISION_ENCODER:?name the directory of SigLIP-so400m}"
fi

stage() { # NAME, OPTIONS FOR ITS STARTING POINT...
    local name="$1" where=("${@:2}") launch data=()
    [[ " ${STAGES:-$name} " == *" $name "* ]] || return 0
    [[ -z "${SNAPSHOTS:-}" ]] || where+=(--set "snapshots=$SNAPSHOTS/$name")
    [[ "${TENSORBOARD:-0}" != 1 ]] || where+=(--tensorboard)
    read -ra launch <<< "${TORCHRUN:-.venv/bin/torchrun --nproc-per-node gpu} -m onevision"
    if [[ "${PLAN:-0}" == 1 ]]; then
        read -ra launch <<< "${ONEVISION:-.venv/bin/onevision}"
        where=(--plan)
    fi
    if [[ "$size" != tiny ]]; then # tiny generates its samples
        data=(--mixture "${DATA:-onevision/mixtures}/$name.yaml")
    fi
    "${launch[@]}" train "$name" --model "$size" "${data[@]}" --output "$out/$name" \
        "${where[@]}" "${options[@]}"
}

stage align \
    --language-model "${LANGUAGE_MODEL:-}" --vision-encoder "${VISION_ENCODER:-}"
stage knowledge --from "$out/align/checkpoint"
stage single_image --from "$out/knowledge/checkpoint"
stage onevision --from "$out/single_image/checkpoint"

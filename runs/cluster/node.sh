#!/usr/bin/env bash
# Runs one stage on this machine. Every node of a cluster runs the same command; so does a restart,
# which resumes from the newest snapshot. Checks the node first, then starts torchrun.
#
#     runs/cluster/node.sh SIZE STAGE OUTPUT [options of `onevision train`...]
#
#     HEAD            the node where the others meet; by default this machine
#     PORT            its port, 29500
#     NODES           the number of nodes, or MIN:MAX; 1
#     DEVICES         GPUs of this node, one process each; 8
#     RUN_ID          the name of the job, the same on every node
#     MAX_RESTARTS    how often the processes are started again before torchrun gives up; 10
#     PYTHON          by default .venv/bin/python
#     LANGUAGE_MODEL, VISION_ENCODER, DATA, SNAPSHOTS, TENSORBOARD, PLAN, ONEVISION_DRY_RUN
#                     as in runs/published.sh
#
# Variables PET_* that are set, as by Kubeflow, take precedence; torchrun reads them.
set -euo pipefail
size="${1:?give 0.5b, 7b or 72b}" stage="${2:?give a stage}" out="${3:?give the output directory}"
cd "$(dirname "$0")/../.."
python="${PYTHON:-.venv/bin/python}" devices="${DEVICES:-8}"

export STAGES="$stage"
export PET_NNODES="${PET_NNODES:-${NODES:-1}}"
export PET_NPROC_PER_NODE="$devices" # Kubeflow's own name for it is another one
export PET_RDZV_BACKEND="${PET_RDZV_BACKEND:-c10d}"
export PET_RDZV_ENDPOINT="${PET_RDZV_ENDPOINT:-${HEAD:-$(hostname)}:${PORT:-29500}}"
export PET_RDZV_ID="${PET_RDZV_ID:-${RUN_ID:-onevision}-$stage}"
export PET_RDZV_CONF="${PET_RDZV_CONF:-join_timeout=1800,read_timeout=600,last_call_timeout=60}"
export PET_MAX_RESTARTS="${PET_MAX_RESTARTS:-${MAX_RESTARTS:-10}}"
# A head that keeps rank 0 when the processes start again does not tell a new node the address of a
# shared store (torch 2.13), and both wait until read_timeout ends them.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE="${TORCH_DISABLE_SHARE_RDZV_TCP_STORE:-1}"
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
export TORCHRUN="${TORCHRUN:-$python -m torch.distributed.run}"
export ONEVISION="${ONEVISION:-$python -m onevision}"

if [[ "${PLAN:-0}" != 1 ]]; then
    [[ "${ONEVISION_DRY_RUN:-0}" != 1 ]] || gpus=0
    "$python" -m onevision doctor
    "$python" runs/cluster/health.py "$out" --gpus "${gpus:-$devices}" \
        --head "${PET_RDZV_ENDPOINT%:*}" --weights "${LANGUAGE_MODEL:-}" "${VISION_ENCODER:-}"
fi
exec "runs/onevision_$size.sh" "$out" "${@:4}"

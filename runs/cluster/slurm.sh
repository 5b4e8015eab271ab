#!/usr/bin/env bash
# The four stages on Slurm, in one job that is queued again when a node dies or its time is up:
#
#     sbatch runs/cluster/slurm.sh SIZE OUTPUT [options of `onevision train`...]
#
# from the root of a checkout that all nodes see, as they do OUTPUT. Options of sbatch replace those
# below: `sbatch --nodes 32 --partition gpu ...`. For variables see node.sh; sbatch passes them on.
#SBATCH --job-name=onevision
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=onevision-%j.log
#SBATCH --signal=B:USR1@120
set -euo pipefail
size="${1:?give 0.5b, 7b or 72b}" out="${2:?give the output directory}"
cd "$SLURM_SUBMIT_DIR"

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export HEAD="${hosts[0]}" NODES="$SLURM_JOB_NUM_NODES" DEVICES="${SLURM_GPUS_ON_NODE:-8}"
export PORT="${PORT:-$((20000 + SLURM_JOB_ID % 10000))}"
export RUN_ID="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"

again() { # queue this job again, at most RETRIES times; the same command then resumes
    if ((${SLURM_RESTART_COUNT:-0} < ${RETRIES:-20})); then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit 1
}
trap again USR1 # two minutes before the end of --time

for stage in align knowledge single_image onevision; do
    if [[ -f "$out/$stage/report.html" ]]; then # the last file that a stage writes
        continue
    fi
    srun --kill-on-bad-exit=1 runs/cluster/node.sh "$size" "$stage" "$out" "${@:3}" &
    wait $! || again # in the background, so that the trap does not wait for it
done

#!/usr/bin/env bash
# A corpus by a SLURM job array without Dask:
#
#     scripts/schedule/array.sh submit SPEC N      # freeze the plan, N parts, then the merge
#
# Parts are told 60 s ahead of their time limit or of a preemption (SIGUSR1), finish what they can, and are queued again; one that is
# cancelled is not, and what was killed without a word is simply submitted again. The merge is `medadv run`: it makes what the parts left, and the manifest.
#SBATCH --job-name=medadv
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --signal=B:USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
medadv=${MEDADV:-medadv}
# Memory is kept between the steps of an attack, see README.md.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776

# Whether a job that was stopped is to go on: told to drain, yes (138: before medadv took signals); cancelled, no, or nobody could cancel it.
told=
again() { [ "$told" = USR1 ] && { [ "$code" -eq 138 ] || [ "$code" -eq 143 ]; }; }

# The shell must hand the signal on: bash waits for its child before it runs a trap, unless it waits with `wait`.
run() {
  "$medadv" run "$@" &
  child=$!
  trap 'told=USR1; kill -USR1 "$child" 2>/dev/null' USR1
  trap 'told=TERM; kill -USR1 "$child" 2>/dev/null' TERM
  wait "$child"
  code=$?
  if [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null; then
    wait "$child"
    code=$?
  fi
}

case ${1:-} in
  submit)
    spec=$2 parts=$3 script=$(readlink -f "$0")
    "$medadv" plan "$spec" --freeze || exit
    array=$(sbatch --parsable --array="1-$parts" "$script" part "$spec" "$parts") || exit
    # afterany: the merge makes whatever a failed part left.
    sbatch --dependency="afterany:${array%%;*}" "$script" merge "$spec"
    ;;
  part)
    run "$2" --part "$SLURM_ARRAY_TASK_ID/$3" --grace 45
    again && exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    [ "$code" -eq 3 ] && exit 0 # the merge tells of quarantined inputs
    exit "$code"
    ;;
  merge)
    run "$2" --grace 45
    again && exec scontrol requeue "$SLURM_JOB_ID"
    exit "$code"
    ;;
  *)
    echo "usage: array.sh submit SPEC N" >&2
    exit 2
    ;;
esac

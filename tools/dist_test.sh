#!/usr/bin/env bash
# MMAction2's way of starting several processes: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT say which machines take part; PYTHON chooses the interpreter.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,3p' "$0" >&2
  exit 2
fi
config=$1 checkpoint=$2 count=$3
shift 3
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
  --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" --nproc-per-node "$count" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"

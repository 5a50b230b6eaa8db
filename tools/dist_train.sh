#!/usr/bin/env bash
# MMAction2's way of starting several processes: bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT say which machines take part; PYTHON chooses the interpreter.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,3p' "$0" >&2
  exit 2
fi
config=$1 count=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
  --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" --nproc-per-node "$count" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"

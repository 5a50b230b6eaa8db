#!/usr/bin/env bash
# Seed 003's entry: BMN, whole training with validation, 1 device. Options: tools/bmn/train.py --help
#   bash test/train_full_1p.sh --data_path=/data/activitynet/
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-$([ -x "$here/.venv/bin/python" ] && echo "$here/.venv/bin/python" || echo python3)}"
exec "$python" "$here/tools/bmn/train.py" --mode full --devices 1 "$@"

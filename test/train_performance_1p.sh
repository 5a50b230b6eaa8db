#!/usr/bin/env bash
# Seed 003's entry: BMN, one epoch for the speed, 1 device. Options: tools/bmn/train.py --help
#   bash test/train_performance_1p.sh --data_path=/data/activitynet/
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-$([ -x "$here/.venv/bin/python" ] && echo "$here/.venv/bin/python" || echo python3)}"
exec "$python" "$here/tools/bmn/train.py" --mode performance --devices 1 "$@"

"""Test, with MMAction2's command line (0.x and 1.x).

python tools/test.py CONFIG CKPT --eval top_k_accuracy mean_class_accuracy --out result.json --average-clips prob
"""

import sys

import mmaction2_style

if __name__ == "__main__":
    sys.exit(mmaction2_style.test(sys.argv[1:]))

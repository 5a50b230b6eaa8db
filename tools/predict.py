"""Predict, with PaddleCV's command line: python tools/predict.py --model_name=TSN --weights=FILE --video_path=VIDEO"""

import sys

import paddle_style

if __name__ == "__main__":
    sys.exit(paddle_style.main(["predict", *sys.argv[1:]]))

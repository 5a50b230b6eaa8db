"""The moving picture of the README: what `clipwise localize --preview` draws into a video, as a WebP.

clipwise demo --out demo
python docs/make_picture.py demo/found/*.mp4 docs/images/localize.webp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import clipwise

LIMIT = 200_000  # bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="a captioned video")
    parser.add_argument("out", type=Path, help=".webp or .gif")
    parser.add_argument("--rate", type=float, default=8, help="frames a second (default 8)")
    parser.add_argument("--width", type=int, default=420, help="pixels (default 420)")
    args = parser.parse_args()
    video = clipwise.open_video(args.video)
    step = max(1, round(video.num_frames / video.duration_s / args.rate))
    frames = [Image.fromarray(frame) for frame in video[list(range(0, video.num_frames, step))]]
    height = round(frames[0].height * args.width / frames[0].width)
    frames = [frame.resize((args.width, height), Image.Resampling.LANCZOS) for frame in frames]
    for quality in (70, 50, 35, 20):
        frames[0].save(
            args.out,
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 / args.rate),
            loop=0,
            quality=quality,
            method=6,
        )
        if args.out.stat().st_size <= LIMIT:
            break
    print(f"{args.out}: {len(frames)} frames, {args.out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

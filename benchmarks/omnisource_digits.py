"""Makes OmniSource's auxiliary sources from GRID: pictures from the digit clips, and whole sentences cut into parts.

    python benchmarks/omnisource_digits.py ../shared/data OUT
    clipwise train OUT/omnisource.yaml --data ../shared/data/grid_digits       against the same recipe without `sources`

The pictures are every third frame of the training clips ("web images"); the parts are fifths of the training sentences
("untrimmed video"), of which the one that holds the middle of the digit's word is the positive one.
"""

import argparse
import csv
from pathlib import Path

from clipwise.data.lists import read_list
from clipwise.prepare.frame_files import extract_frames
from clipwise.prepare.synthetic import write_video
from clipwise.recipe import dump_recipe, load_recipe, make_recipe
from clipwise.video.decode import open_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="folder with grid_digits and grid_sentences")
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    videos = read_list(args.shared / "grid_digits" / "train.txt")
    paths = [videos.path(i) for i in range(len(videos))]
    extract_frames(paths, args.out / "images", step=3)
    folders = {p.name: p for p in (args.out / "images").rglob("*") if p.is_dir()}
    lines = [
        f"{picture}\t{videos.label(i)}"
        for i, path in enumerate(paths)
        for picture in sorted(folders[Path(path).stem].glob("*.jpg"))
    ]
    (args.out / "images.txt").write_text("\n".join(lines))

    classes = videos.classes or []
    parts = []
    with open(args.shared / "grid_sentences" / "sentences.csv", newline="") as file:
        for row in csv.DictReader(file):
            word = row["digit"]
            if row["subset"] != "train" or word not in classes:
                continue
            folder = args.out / "parts" / row["name"]
            folder.mkdir(parents=True, exist_ok=True)
            with open_video(args.shared / "grid_sentences" / "videos" / f"{row['name']}.mp4") as reader:
                frames = reader.frames(range(reader.num_frames))
            for k in range(5):
                write_video(folder / f"part_{k}.mp4", frames[len(frames) * k // 5 : len(frames) * (k + 1) // 5])
            middle = (float(row["digit_start_frame"]) + float(row["digit_end_frame"])) / 2
            parts.append(f"{folder} {classes.index(word)} 5 {min(4, int(middle * 5 / len(frames)))}")
    (args.out / "parts.txt").write_text("\n".join(parts))

    recipe = load_recipe("tsm_tiny", [f"epochs={args.epochs}"]).model_dump()
    recipe["sources"] = [
        {"name": "images", "kind": "image", "data": str(args.out / "images.txt"), "every": 2, "class_power": 0.5},
        {"name": "untrimmed", "kind": "untrimmed", "data": str(args.out / "parts.txt"), "every": 2},
    ]
    (args.out / "omnisource.yaml").write_text(dump_recipe(make_recipe(recipe)))
    print(f"{len(lines)} pictures, {len(parts)} sentences: {args.out / 'omnisource.yaml'}")


if __name__ == "__main__":
    main()

"""The screenshots of the documentation: the demo's report, a timeline, and the server's page in light and dark.

    clipwise demo --out demo
    python docs/make_screenshots.py demo        # needs Chromium and chromedriver; writes docs/images/*.png

``docs/make_picture.py`` makes the README's moving picture.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
COLORS = 224
LIMIT = 200_000  # bytes
SHOWN_S = 1.9  # of the long video: in its first action
FRAME = 143  # pixels of the window that are Chromium's own
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests/serve")]

from webdriver import Browser  # noqa: E402 - of the tests of the page

from clipwise.report.chart_files import write_chart  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="the folder that `clipwise demo` wrote")
    parser.add_argument("--port", type=int, default=8766, help="of the server whose page is shown (default 8766)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report(args.demo, Path(folder))
        timeline(args.demo)
        page(args.demo, args.port, Path(folder))
    return 0


def report(demo: Path, folder: Path) -> None:
    """The upper part of the demo's report."""
    with Browser(folder / "report", (793, 1442)) as browser:
        browser.open((demo / "report.html").resolve().as_uri())
        time.sleep(1)  # its charts are drawn
        keep(browser, "report.png", folder)


def timeline(demo: Path) -> None:
    """What the demo draws of its held-out video."""
    (found,) = (demo / "found").glob("*.svg")
    write_chart(IMAGES / "timeline.png", found.read_text(encoding="utf-8"))
    fewer_colors(IMAGES / "timeline.png", IMAGES / "timeline.png")
    told("timeline.png")


def page(demo: Path, port: int, folder: Path) -> None:
    """The server's page with a held-out long video, half-way through its first action."""
    video = next((demo / "found").glob("*.mp4"), None) or next((demo / "long").rglob("*.mp4"))
    raw = next((path for path in demo.rglob(video.name) if path.parent != video.parent), video)  # without captions
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "clipwise", "serve", str(demo / "tsm_tiny/best.safetensors"), "--port", str(port)]
    server = subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz")
        for name, dark, lang in (("serve.png", False, "en-US"), ("serve_dark.png", True, "zh-CN")):
            with Browser(folder / f"profile-{lang}", (1280, 1066 + FRAME), lang) as browser:
                browser.open(f"http://127.0.0.1:{port}")
                browser.run(f"localStorage.setItem('clipwise.theme', '{'dark' if dark else 'light'}')")
                browser.open(f"http://127.0.0.1:{port}")
                browser.type("#file", str(raw.resolve()))
                browser.wait("!document.querySelector('#tracks').hidden", seconds=300)
                browser.run("document.querySelector('video').pause()")
                browser.run("document.querySelector('#segments button')?.click()")
                time.sleep(2)
                browser.run(f"const v = document.querySelector('video'); v.pause(); v.currentTime = {SHOWN_S}")
                time.sleep(1)
                keep(browser, name, folder)
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"{address} does not answer")


def keep(browser: Browser, name: str, folder: Path) -> None:
    """The window's content as a PNG of few colors."""
    browser.screenshot(folder / name)
    fewer_colors(folder / name, IMAGES / name)
    told(name)


def fewer_colors(source: Path, target: Path) -> None:
    Image.open(source).convert("RGB").quantize(COLORS).save(target, optimize=True)


def told(name: str) -> None:
    size = (IMAGES / name).stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{name} has {size} bytes; {LIMIT} are allowed")
    print(f"docs/images/{name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())

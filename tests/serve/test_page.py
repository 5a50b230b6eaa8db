"""The page in a real headless Chromium, with real uploads, whole and broken."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import numpy as np
import pytest
from webdriver import Browser, find_chromium

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium with its driver here (Debian: apt-get install chromium chromium-driver)",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser, server):
    """The page as on a first visit."""
    browser.resize(1280, 900)
    browser.open(server.url)
    browser.run("localStorage.clear()")
    browser.open(server.url)
    browser.wait("document.querySelectorAll('#classes li').length === 3")
    browser.log()
    yield browser
    serious = [entry for entry in browser.log() if entry["level"] == "SEVERE" and "favicon" not in entry["message"]]
    expected = (
        "/v1/predict",
        "blob:",
    )  # a refused upload, and a file that the browser cannot play, are logged by the browser
    assert [entry for entry in serious if not any(word in entry["message"] for word in expected)] == []


def upload(page: Browser, *paths: Path) -> None:
    page.type("#file", "\n".join(map(str, paths)))


def analyzed(page: Browser) -> None:
    page.wait("!document.querySelector('#tracks').hidden && document.querySelector('#best').textContent", seconds=40)


def now(page: Browser) -> float:
    return float(page.run("return document.querySelector('#slider').getAttribute('aria-valuenow')"))


def at(page: Browser, seconds: float, tolerance: float = 0.08) -> None:
    page.wait(
        "Math.abs(Number(document.querySelector('#slider').getAttribute('aria-valuenow')) - arguments[0]) <= arguments[1]",
        seconds,
        tolerance,
        seconds=30,
    )


def top_now(page: Browser) -> str:
    """The first bar on the screen."""
    return page.run(
        "return [...document.querySelectorAll('#bars li')].sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)[0]"
        ".querySelector('span').textContent"
    )


def test_a_video_is_watched_with_its_timeline(page, videos):
    upload(page, videos / "levels.mp4")
    page.wait("document.querySelector('video').videoWidth === 96")
    analyzed(page)
    assert page.run("return document.querySelector('#best').textContent") == "dark"
    blocks = page.run("return [...document.querySelectorAll('#segments button')].map(b => b.textContent)")
    assert blocks == ["dark", "bright", "dark"]
    # Where the blocks stand on the screen is when they happen.
    share = page.run(
        "const a = document.querySelector('#segments').getBoundingClientRect(), "
        "b = document.querySelectorAll('#segments button')[1].getBoundingClientRect(); "
        "return [(b.left - a.left) / a.width, (b.right - a.left) / a.width]"
    )
    assert np.allclose(share, [2 / 6, 4 / 6], atol=0.1)  # windows of 1 s, one each 0.5 s

    page.click("#segments button:nth-child(2)")
    page.wait("Math.abs(document.querySelector('video').currentTime - 2) < 0.6")
    page.click_at("#slider", 0.5, 0.9)
    at(page, 3.0)
    page.wait("document.querySelector('#caption b').textContent === 'bright'")
    time.sleep(0.5)  # rows glide to their rank
    assert top_now(page) == "bright"
    assert page.run("return Math.abs(document.querySelector('video').currentTime - 3)") < 0.08
    page.click("#moments li:nth-child(3) button")
    page.wait("document.querySelector('#moments li:nth-child(3) button').classList.contains('on')")
    assert abs(now(page) - 4) < 0.6

    # The timeline's curves and the pictures along it are really drawn.
    painted = "[...document.querySelector(arguments[0]).getContext('2d').getImageData(0, 0, 900, 50).data].filter((v, i) => i % 4 === 3 && v).length > 2000"
    page.wait(painted, "#curves")
    page.wait(painted, "#strip")

    page.click_at("#slider", 0.1, 0.9)
    page.click("#play")
    page.wait("document.querySelector('video').currentTime > 1.0")
    assert page.run("return document.querySelector('#play').getAttribute('aria-label')") == "Pause"
    page.click("#play")
    page.wait("document.querySelector('video').paused")
    assert now(page) > 0.9

    for selector, ending in (("#json", ".json"), ("#srt", ".srt")):
        page.click(selector)
        file = page.downloads / f"levels{ending}"
        until = time.monotonic() + 10
        while not file.exists():
            assert time.monotonic() < until, list(page.downloads.iterdir())
            time.sleep(0.05)
    result = json.loads((page.downloads / "levels.json").read_text())
    assert [s["class"] for s in result["segments"]] == blocks
    assert (page.downloads / "levels.srt").read_text().count(" --> ") == 3

    loaded = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded
    assert all(name.startswith((page.run("return location.origin"), "blob:", "data:")) for name in loaded)


def test_everything_can_be_done_with_the_keyboard(page, videos):
    page.run("document.querySelector('#main').focus()")
    order = []
    for _ in range(4):
        page.press("Tab")
        order.append(page.run("return document.activeElement.id || document.activeElement.tagName"))
    assert order[0] == "choose"
    page.run(
        "window.opened = 0; document.querySelector('#file').addEventListener('click', e => { window.opened += 1; e.preventDefault(); })"
    )
    page.run("document.querySelector('#choose').focus()")
    page.press("Enter")
    assert page.run("return window.opened") == 1
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"

    upload(page, videos / "levels.mp4")
    analyzed(page)
    page.run("document.querySelector('#slider').focus()")
    stride = 0.0
    page.press("Home")
    at(page, 0)
    page.press("ArrowRight")
    page.wait("Number(document.querySelector('#slider').getAttribute('aria-valuenow')) > 0.2")
    stride = now(page)
    page.press("ArrowRight", "ArrowRight")
    at(page, 3 * stride)
    page.press("ArrowLeft")
    at(page, 2 * stride)
    page.press("Home", "PageDown")
    at(page, 2.0, 0.6)
    assert "of 0:06.0: " in page.run("return document.querySelector('#slider').getAttribute('aria-valuetext')")
    page.press("End")
    at(page, 6.0)
    page.press("PageUp")
    at(page, 4.0, 0.6)
    page.press("Home", "Space")
    page.wait("!document.querySelector('video').paused")
    page.press("Space")
    page.wait("document.querySelector('video').paused")
    page.run("document.querySelector('#segments button').focus()")
    page.press("ArrowRight", "ArrowRight", "Enter")
    at(page, 4.0, 0.6)


def test_broken_files_are_explained_in_plain_words_and_both_languages(page, videos, tmp_path):
    (tmp_path / "broken.mp4").write_bytes((videos / "levels.mp4").read_bytes()[:3000])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "letter.mp4").write_text("Dear Sir or Madam")
    for name in ("broken", "letter", "empty"):
        upload(page, tmp_path / f"{name}.mp4")
        page.wait("!document.querySelector('#trouble').hidden")
        assert (
            page.run("return document.querySelector('#trouble-title').textContent")
            == "This is not a video that can be read"
        )
    assert "0 bytes" in page.run("return document.querySelector('#trouble-detail').textContent")
    page.click("[data-lang=zh]")
    assert page.run("return document.querySelector('#trouble-title').textContent") == "无法读取这个视频"
    assert page.run("return document.documentElement.lang") == "zh-Hans"
    # The page goes on after errors.
    upload(page, videos / "bright.mp4")
    page.wait("!document.querySelector('#work').hidden")
    analyzed(page)
    assert page.run("return document.querySelector('#best').textContent") == "bright"
    assert page.run("return document.querySelectorAll('#tabs button').length") == 4
    page.click("#tabs button:nth-child(2)")
    page.wait("!document.querySelector('#trouble').hidden")
    page.click("#tabs button:nth-child(4)")
    page.wait("document.querySelector('#trouble').hidden && !document.querySelector('#tracks').hidden")


def test_language_and_colors_are_remembered(page, server):
    title = "return document.querySelector('h1').textContent"
    assert page.run(title) == "What happens in your video, and when?"
    page.click("[data-lang=zh]")
    assert page.run(title) == "视频里发生了什么？什么时候发生？"
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    page.click("#theme")
    light = page.run(ground)
    page.click("#theme")
    dark = page.run(ground)
    assert light != dark
    for _ in range(20):  # the browser keeps what it remembers on another thread
        page.open(server.url)
        if page.run(title) != "What happens in your video, and when?":
            break
        time.sleep(0.1)
    assert page.run(title) == "视频里发生了什么？什么时候发生？"
    assert page.run(ground) == dark
    page.wait("document.querySelector('#fine').textContent.startsWith('单个不超过 256 MB')")
    # No word is missing in either language.
    for lang in ("en", "zh"):
        page.click(f"[data-lang={lang}]")
        empty = "return [...document.querySelectorAll('[data-i18n]')].filter(e => e.dataset.i18n !== 'noplay' && !e.textContent.trim()).map(e => e.dataset.i18n)"
        assert page.run(empty) == []
        assert "undefined" not in page.run("return document.body.textContent")


def test_a_file_is_dropped(page, videos):
    data = base64.b64encode((videos / "bright.mp4").read_bytes()).decode()
    page.run(
        "const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)); const transfer = new DataTransfer(); "
        "transfer.items.add(new File([bytes], 'dropped <img src=x onerror=alert(1)>.mp4', {type: 'video/mp4'})); "
        "for (const kind of ['dragenter', 'dragover', 'drop']) document.body.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}))",
        data,
    )
    analyzed(page)
    assert page.run("return document.querySelector('#best').textContent") == "bright"
    # A file's name is text, whatever it holds.
    assert page.run("return document.querySelector('#name').textContent") == "dropped <img src=x onerror=alert(1)>.mp4"
    assert page.run("return document.querySelectorAll('#name *').length") == 0
    assert page.run("return document.body.classList.contains('over')") is False


def test_a_format_that_the_browser_cannot_play_has_a_timeline_all_the_same(page, tmp_path):
    import av

    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "yuv420p"
        for i in range(100):
            picture = np.full((72, 96, 3), 225 if i >= 50 else 30, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    upload(page, path)
    page.wait("!document.querySelector('#noplay').hidden")
    analyzed(page)
    page.run("document.querySelector('#slider').focus()")
    page.press("End")
    at(page, 4.0)
    time.sleep(0.4)
    assert top_now(page) == "bright"
    page.click("#segments button:nth-child(1)")
    at(page, 0)
    assert page.run("return document.querySelector('#play').disabled") is True


def test_a_telephone_shows_everything_without_scrolling_sideways(page, videos):
    page.resize(390, 844)
    wide = "return document.documentElement.scrollWidth - innerWidth"
    assert page.run(wide) <= 0
    upload(page, videos / "levels.mp4")
    analyzed(page)
    assert page.run(wide) <= 0
    outside = "return [...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.id || e.className)"
    assert page.run(outside) == []
    page.click_at("#slider", 0.5, 0.9)
    at(page, 3.0)
    small = "return [...document.querySelectorAll('button')].filter(b => b.checkVisibility() && !b.closest('#segments') && b.getBoundingClientRect().height < 28).map(b => b.id)"
    assert page.run(small) == []


def test_those_who_do_not_see_the_page_are_told(page, videos):
    """Names of everything that can be pressed, roles and values, and contrast of text."""
    upload(page, videos / "levels.mp4")
    analyzed(page)
    unnamed = "return [...document.querySelectorAll('button, a, [role=slider], [role=toolbar]')].filter(e => e.checkVisibility() && !(e.getAttribute('aria-label') || e.textContent.trim())).map(e => e.outerHTML.slice(0, 80))"
    assert page.run(unnamed) == []
    page.wait("document.querySelector('#said').textContent.startsWith('Done: levels.mp4 is dark')")
    assert page.run("return document.querySelector('#slider').getAttribute('aria-valuemax')") == "6.00"
    contrast = """
      const lum = (c) => { const f = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
      const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$|transparent/.test(c)) return c; } };
      const bad = [];
      for (const e of document.querySelectorAll('h2, p, span, b, em, button')) {
        if (!e.checkVisibility() || !e.textContent.trim() || e.closest('.caption, #ghost, .away, .curtain, :disabled')) continue;
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
        const a = lum(getComputedStyle(e).color), b = lum(ground(e)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < (e.closest('#segments') ? 3 : 4.5)) bad.push(`${e.id || e.className || e.tagName} ${ratio.toFixed(2)} ${e.textContent.slice(0, 20)}`);
      }
      return bad"""
    for _ in range(2):  # light, then dark
        page.click("#theme")
        time.sleep(0.3)
        assert page.run(contrast) == []

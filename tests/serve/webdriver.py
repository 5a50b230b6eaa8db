"""A small client of the WebDriver protocol, so that the page's tests need chromium and chromedriver but no Python package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--hide-scrollbars",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {
    "ArrowLeft": "\ue012",
    "ArrowRight": "\ue014",
    "Home": "\ue011",
    "End": "\ue010",
    "PageDown": "\ue00f",
    "PageUp": "\ue00e",
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Space": " ",
}


def find_chromium() -> tuple[str, str] | None:
    """Paths of the browser and its driver; CHROMIUM and CHROMEDRIVER choose them."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser:
    """A headless Chromium with an empty profile."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 900), lang: str = "en-US"):
        found = find_chromium()
        assert found is not None
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        self.driver = subprocess.Popen(
            [found[1], "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.driver.stdout is not None
        port = ""
        for line in self.driver.stdout:
            if "successfully on port" in line:
                port = line.rsplit("port ", 1)[1].strip(" .\n")
                break
        self.base = f"http://127.0.0.1:{port}"
        options = {
            "binary": found[0],
            "args": [
                *FLAGS,
                f"--user-data-dir={folder / 'profile'}",
                f"--window-size={size[0]},{size[1]}",
                f"--lang={lang}",
            ],
            "prefs": {"download.default_directory": str(self.downloads), "intl.accept_languages": lang},
        }
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{session['sessionId']}"

    def close(self) -> None:
        try:
            self._call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=240) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, url: str) -> None:
        self._call("POST", self.session + "/url", {"url": url})

    def run(self, script: str, *args: Any) -> Any:
        """Run JavaScript in the page; the script says ``return``."""
        return self._call("POST", self.session + "/execute/sync", {"script": script, "args": list(args)})

    def wait(self, script: str, *args: Any, seconds: float = 60) -> Any:
        """Wait until an expression is true; returns its value."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            value = self.run(f"return ({script})", *args)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(
            f"still not true after {seconds} s: {script}; the page says: {self.run('return document.body.innerText')[:600]}"
        )

    def find(self, css: str) -> dict[str, str]:
        return self._call("POST", self.session + "/element", {"using": "css selector", "value": css})

    def click(self, css: str) -> None:
        self._call("POST", f"{self.session}/element/{self.find(css)[ELEMENT]}/click")

    def type(self, css: str, text: str) -> None:
        """Send keys; for a file input, paths separated by newlines."""
        self._call("POST", f"{self.session}/element/{self.find(css)[ELEMENT]}/value", {"text": text})

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self._call(
            "POST", self.session + "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        )

    def click_at(self, css: str, x: float, y: float) -> None:
        """Click inside an element, x and y as shares of its width and height."""
        box = self.run(
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'nearest'}); "
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]",
            css,
        )
        place = {"type": "pointerMove", "x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
        actions = [place, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._call(
            "POST", self.session + "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]}
        )

    def cdp(self, command: str, **params: Any) -> Any:
        return self._call("POST", self.session + "/goog/cdp/execute", {"cmd": command, "params": params})

    def resize(self, width: int, height: int) -> None:
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )

    def log(self) -> list[dict[str, Any]]:
        """Messages of the browser's console since the last call."""
        return self._call("POST", self.session + "/se/log", {"type": "browser"})

    def screenshot(self, path: Path, full: bool = False) -> Path:
        value = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        path.write_bytes(base64.b64decode(value))
        return path

"""A server in a thread, with a model whose answers are known: it tells bright pictures from dark ones."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from clipwise.data.clip_spec import ClipSpec
from clipwise.recipe import load_recipe
from clipwise.serve.app import create_app
from clipwise.serve.limits import Limits, Settings
from clipwise.serve.running import bind, make_server

CLASSES = ["dark", "bright", "a class that is never seen, with a name too long for any telephone"]


class Brightness:
    """A predictor whose score is how near a clip's mean is to the level of each class."""

    def __init__(self) -> None:
        recipe = load_recipe("tsm_tiny").model_dump()
        self.passport = SimpleNamespace(model="brightness", recipe=recipe, metrics={"top1_acc": 1.0}, versions={})
        self.spec = ClipSpec.from_recipe(recipe, "test")
        self.classes = CLASSES
        self.model = None
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.delay_s = 0.0

    def score(self, frames) -> np.ndarray:
        assert self.gate.wait(120)
        time.sleep(self.delay_s)
        self.batches.append(len(frames))
        level = frames.float().mean(dim=(1, 2, 3, 4, 5)).numpy()[:, None]
        closeness = np.exp(-(((level - np.array([30.0, 225.0, -500.0])) / 40) ** 2))
        return closeness / closeness.sum(1, keepdims=True)


@dataclass
class Running:
    """A server that listens."""

    url: str
    port: int
    predictor: Any
    app: Any

    def call(
        self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> tuple[int, Any, Any]:
        """(status, headers, JSON or text)."""
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                status, head, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, head, body = error.code, error.headers, error.read()
        return status, head, json.loads(body) if head.get_content_type() == "application/json" else body.decode()

    def send(self, data: bytes, query: str = "", name: str = "a.mp4") -> tuple[int, Any, Any]:
        """The file itself as the body."""
        query = f"?name={name}&{query}" if query else f"?name={name}"
        return self.call("/v1/predict" + query, data, {"Content-Type": "application/octet-stream"})

    def send_form(self, files: list[tuple[str, bytes]], query: str = "") -> tuple[int, Any, Any]:
        body, kind = form(files)
        return self.call("/v1/predict" + (f"?{query}" if query else ""), body, {"Content-Type": kind})


def form(files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: video/mp4\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def start_server(limits: Limits | None = None, proxies: Sequence[str] = (), localizer: Any = None, **settings: Any):
    """A running server and the function that stops it."""
    predictor = Brightness()
    limits = limits or Limits()
    app = create_app(predictor, Settings(limits=limits, decoders=2, **settings), localizer=localizer)
    listener = bind("127.0.0.1", 0)
    server = make_server(app, limits, proxies)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    running = Running(f"http://127.0.0.1:{port}", port, predictor, app)
    until = time.monotonic() + 180
    while not server.started:
        assert time.monotonic() < until
        assert thread.is_alive()
        time.sleep(0.02)

    def stop(open_gate: bool = True) -> None:
        if open_gate:
            predictor.gate.set()
        server.should_exit = True
        thread.join(120)
        listener.close()
        assert not thread.is_alive()

    return running, stop

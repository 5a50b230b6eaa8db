"""Requests and files that mean harm: each is refused in words, and the server still answers afterwards."""

from __future__ import annotations

import http.server
import json
import multiprocessing.process
import os
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from serving import form, start_server

from clipwise.serve.api_errors import ApiError
from clipwise.serve.decoders import DecoderPool
from clipwise.serve.fetch import check_url, fetch_url, is_public
from clipwise.serve.limits import Limits
from clipwise.serve.uploads import display_name


@pytest.fixture(scope="module")
def strict(videos):
    """A server with small limits; every test ends with a look whether it still works."""
    limits = Limits(
        max_upload_mb=0.5,
        max_files=3,
        max_duration_s=20,
        max_frames=1000,
        max_pixels=640 * 480,
        idle_timeout_s=1.0,
        upload_timeout_s=3.0,
        decode_timeout_s=60,
    )
    running, stop = start_server(limits)
    yield running
    stop()


@pytest.fixture(autouse=True)
def _still_answers(request, videos):
    yield
    if "strict" in request.fixturenames:
        strict = request.getfixturevalue("strict")
        assert strict.call("/healthz")[0] == 200
        status, _, answer = strict.send((videos / "bright.mp4").read_bytes())
        assert status == 200
        assert answer["results"][0]["predictions"][0]["class"] == "bright"


def refused(answer: tuple, status: int, code: str) -> str:
    """Asserts a refusal; returns its message."""
    got, _, body = answer
    assert (got, body["error"]["code"]) == (status, code), body
    assert "Traceback" not in body["error"]["message"]
    return body["error"]["message"]


def raw(port: int, *pieces: bytes, pause_s: float = 0.0, wait_s: float = 60.0) -> bytes:
    """Everything that the server says to bytes sent piece by piece."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
        except OSError:  # it has hung up
            pass
        try:
            while chunk := connection.recv(65536):
                said += chunk
        except ConnectionResetError:
            pass
    return said


HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"


# ---- requests ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        b"/../../../../etc/passwd",
        b"/page/../../app.py",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/page.css/../../errors.py",
        b"//etc/passwd",
        b"/v1/jobs/../../../etc/passwd",
        b"/v1/jobs/..%2f..%2fetc%2fpasswd",
    ],
)
def test_paths_lead_nowhere(strict, path):
    said = raw(strict.port, b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 404"), said[:200]
    assert b"root:" not in said
    assert b"import" not in said


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nBad Header: 1\r\n\r\n", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HEAD + b"Content-Length: abc\r\n\r\n", HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", HEAD + b"Transfer-Encoding: gzip\r\n\r\nhello",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_in_the_form_of_every_refusal(strict, request_):
    head, _, body = raw(strict.port, request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/json" in head
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_file_names_make_no_paths(strict, videos, tmp_path):
    evil = f"../../../../../..{tmp_path}/evil.mp4"
    status, _, answer = strict.send_form([(evil, (videos / "bright.mp4").read_bytes())])
    assert status == 200
    assert answer["results"][0]["source"] == "evil.mp4"
    assert not (tmp_path / "evil.mp4").exists()
    assert display_name("C:\\users\\x\\..\\a.mp4") == "a.mp4"
    assert display_name("a\0b\r\n<script>.mp4") == "ab<script>.mp4"
    assert display_name("../") == "video"
    assert len(display_name("x" * 5000)) == 120


def test_an_announced_size_is_refused_before_it_comes(strict):
    started = time.monotonic()
    said = raw(strict.port, HEAD + b"Content-Length: 9000000000\r\n\r\n" + b"x" * 1000)
    assert b" 413 " in said.split(b"\r\n")[0]
    assert b"too_large" in said
    assert time.monotonic() - started < 40


def test_an_upload_without_end_is_cut_off(strict):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    said = raw(strict.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 2000)
    assert b" 413 " in said.split(b"\r\n")[0]
    assert b"too_large" in said


def test_a_form_that_is_too_large(strict):
    refused(strict.send_form([("a.mp4", os.urandom(300_000)), ("b.mp4", os.urandom(300_000))]), 413, "too_large")


def test_a_head_that_drips_is_hung_up_on(strict):
    started = time.monotonic()
    said = raw(strict.port, *[b"G", b"E", b"T", b" ", b"/", b" ", b"H", b"T"] * 2, pause_s=0.15)
    assert said.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 40
    started = time.monotonic()
    said = raw(strict.port, b"")  # a connection that says nothing
    assert said.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 40


def test_a_body_that_stalls_or_drips_is_refused(strict):
    said = raw(strict.port, HEAD + b"Content-Length: 5000\r\n\r\nabc")
    assert b" 408 " in said.split(b"\r\n")[0]
    assert b"too_slow" in said
    said = raw(strict.port, HEAD + b"Content-Length: 5000\r\n\r\n", *[b"x"] * 14, pause_s=0.3)
    assert b" 408 " in said.split(b"\r\n")[0]


def test_half_of_the_connections_left_open_harm_nobody(strict, videos):
    idle = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(60)]
    try:
        for connection in idle:
            connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\nxx")
        # The sixteen places of one client are taken at most until the bodies have stood still for too long.
        until = time.monotonic() + 60
        while strict.send((videos / "bright.mp4").read_bytes())[0] != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        for connection in idle:
            connection.close()


def test_forms_that_are_broken(strict):
    kind = "multipart/form-data; boundary=xyz"
    for body, headers, word in (
        (b"--xyz\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\nabc", kind, "cut off"),
        (b"garbage", kind, "broken"),
        (b"--xyz--\r\n", kind, "no file"),
        (b"--xyz\r\nX: " + b"y" * 20000 + b"\r\n\r\n\r\n--xyz--\r\n", kind, ""),
        (
            b"--xyz\r\nContent-Disposition: form-data; name=topk\r\n\r\n3\r\n--xyz--\r\n",
            kind,
            "options go into the address",
        ),
        (b"abc", "multipart/form-data", "boundary"),
        (b"", "application/octet-stream", "empty"),
    ):
        assert word in refused(strict.call("/v1/predict", body, {"Content-Type": headers}), 400, "bad_request")
    refused(strict.send_form([("a", b"x")] * 4), 413, "too_many_files")
    refused(
        strict.call("/v1/predict", b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
        415,
        "unsupported_type",
    )
    refused(strict.call("/v1/predict"), 405, "method_not_allowed")
    assert raw(strict.port, b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(strict.port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 70000).startswith(b"HTTP/1.1 400")


def test_clients_behind_a_trusted_proxy_are_told_apart(videos):
    data = (videos / "bright.mp4").read_bytes()

    def send(running, client):
        kind = {"Content-Type": "application/octet-stream", "X-Forwarded-For": client}
        return running.call("/v1/predict?async=1", data, kind)

    limits = Limits(per_client=1)
    for proxies, second in ((["127.0.0.0/8"], 202), ([], 429), (["10.1.2.3"], 429)):
        running, stop = start_server(limits, proxies)
        try:
            running.predictor.gate.clear()
            assert send(running, "198.51.100.7, 127.0.0.5")[0] == 202  # the proxy's own proxy is trusted as well
            got = send(running, "198.51.100.8")[0]
            assert got == second, proxies
            refused(send(running, "203.0.113.9, 198.51.100.7"), 429, "too_many_requests")  # what a client adds in front
        finally:
            stop()


def test_what_is_at_work_when_the_server_ends_gets_a_json_503(videos):
    running, stop = start_server()
    answers = []

    def send():
        answers.append(running.send((videos / "levels.mp4").read_bytes()))

    def upload():  # the body never ends
        answers.append(raw(running.port, HEAD + b"Content-Length: 5000\r\n\r\nabc"))

    running.predictor.gate.clear()
    threads = [threading.Thread(target=f) for f in (send, upload)]
    for thread in threads:
        thread.start()
    while running.app.state.server.admission.total < 2:
        time.sleep(0.02)
    later = threading.Timer(8, running.predictor.gate.set)  # longer than the server gives to what is at work
    later.start()
    stop(open_gate=False)
    for thread in threads:
        thread.join(20)
    (cut,) = [a for a in answers if isinstance(a, bytes)]
    (whole,) = [a for a in answers if not isinstance(a, bytes)]
    refused(whole, 503, "shutting_down")
    assert b" 503 " in cut.split(b"\r\n")[0]
    assert json.loads(cut.split(b"\r\n\r\n")[1])["error"]["code"] == "shutting_down"


def test_a_decoder_killed_while_it_waits_is_replaced(videos, monkeypatch):
    """The kernel's memory killer may choose any process."""
    running, stop = start_server()
    try:
        for process in running.app.state.server.pool._ready:
            process.process.kill()
        assert running.send((videos / "bright.mp4").read_bytes())[0] == 200
        monkeypatch.setattr(multiprocessing.process.BaseProcess, "is_alive", lambda self: True)  # not yet known as dead
        for process in running.app.state.server.pool._ready:
            process.process.kill()
        assert running.send((videos / "bright.mp4").read_bytes())[0] == 200
    finally:
        stop()


def test_pages_of_other_sites_are_kept_out(strict, videos):
    data = (videos / "bright.mp4").read_bytes()
    kind = {"Content-Type": "application/octet-stream"}
    refused(strict.call("/v1/predict", data, {**kind, "Origin": "https://evil.example"}), 403, "cross_origin")
    refused(strict.call("/v1/predict", data, {**kind, "Sec-Fetch-Site": "cross-site"}), 403, "cross_origin")
    refused(strict.call("/v1/model", None, {"Host": "evil.example"}), 421, "bad_host")  # DNS rebinding
    assert strict.call("/v1/predict", data, {**kind, "Origin": strict.url})[0] == 200


# ---- files ------------------------------------------------------------------------------------------------------------------


def patched(data: bytes, box: bytes, offset: int, values: bytes) -> bytes:
    """An mp4 with bytes after a box's name replaced."""
    at = data.index(box) + 4 + offset
    return data[:at] + values + data[at + len(values) :]


def test_a_small_file_that_claims_millions_of_frames(strict, videos):
    data = (videos / "bright.mp4").read_bytes()
    many = struct.pack(">I", 50_000_000)
    data = patched(data, b"stsz", 4, struct.pack(">I", 1) + many)  # every sample of 1 byte
    data = patched(data, b"stts", 8, many)
    started = time.monotonic()
    got, _, body = strict.send(data)
    assert got in (413, 422), body
    assert body["error"]["code"] in ("too_many_frames", "too_long", "decode_memory", "not_a_video")
    assert time.monotonic() - started < 60


def avi(width: int, height: int, frames: int = 1) -> bytes:
    """An AVI of a few hundred bytes that claims pictures of any size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body

    main = struct.pack("<14I", 40000, 0, 0, 0x10, frames, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vidsMJPG" + struct.pack("<10I4H", 0, 0, 0, 1, 25, 0, frames, 0, 0xFFFFFFFF, 0, 0, 0, 0, 0)
    picture = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    head = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", picture))
    body = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + head) + chunk(
        b"LIST", b"movi" + chunk(b"00dc", b"\xff\xd8\xff\xd9")
    )
    return chunk(b"RIFF", b"AVI " + body)


def test_a_small_file_that_claims_huge_pictures(strict):
    data = avi(16_000, 16_000)
    assert len(data) < 400
    message = refused(strict.send(data, name="bomb.avi"), 413, "too_many_pixels")
    assert "16000 x 16000" in message
    refused(strict.send(avi(100_000, 100_000)), 422, "not_a_video")  # FFmpeg itself takes no such size
    got, _, body = strict.send(b"YUV4MPEG2 W100000 H100000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + b"x" * 500)
    assert (got, body["error"]["code"]) == (415, "unsupported_type")


def test_a_video_beyond_the_limits(strict, tmp_path):
    from clipwise.prepare.synthetic import write_video

    write_video(tmp_path / "large.mp4", np.zeros((3, 720, 1280, 3), np.uint8))
    refused(strict.send((tmp_path / "large.mp4").read_bytes()), 413, "too_many_pixels")
    write_video(tmp_path / "long.mp4", np.zeros((60, 48, 64, 3), np.uint8), fps=2)
    refused(strict.send((tmp_path / "long.mp4").read_bytes()), 413, "too_long")
    write_video(tmp_path / "many.mp4", np.zeros((1100, 16, 16, 3), np.uint8), fps=100)
    refused(strict.send((tmp_path / "many.mp4").read_bytes()), 413, "too_many_frames")


@pytest.mark.parametrize("kind", ["hls", "concat", "concat_absolute", "sdp", "dash"])
def test_playlists_open_nothing_else(strict, videos, kind):
    target = videos / "bright.mp4"
    data = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile://{target}\n#EXT-X-ENDLIST\n",
        "concat": "ffconcat version 1.0\nfile bright.mp4\n",
        "concat_absolute": f"ffconcat version 1.0\nfile '{target}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "dash": f'<?xml version="1.0"?><MPD type="static"><Period><BaseURL>file://{target}</BaseURL></Period></MPD>',
    }[kind]
    got, _, body = strict.send(data.encode(), name="list.mp4")
    assert got in (415, 422), body
    assert "predictions" not in json.dumps(body)


def test_files_that_are_damaged(strict, videos):
    whole = (videos / "levels.mp4").read_bytes()
    for data in (whole[: len(whole) // 2], whole[:40], b"<html>" + b" " * 5000, b"\0" * 5000):
        message = refused(strict.send(data, name="mine.mp4"), 422, "not_a_video")
        assert "upload-" not in message  # no path of the server
    for seed in range(8):  # noise, which FFmpeg may take for some kind of sound
        got, _, body = strict.send(np.random.default_rng(seed).bytes(5000))
        assert (got, body["error"]["code"]) in ((422, "not_a_video"), (415, "unsupported_type"))


class Trick:
    """Runs a function in the decoder process as soon as it is unpickled there: stands for a decoder gone wild."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize(
    ("trick", "code"),
    [
        (Trick(time.sleep, 60), "decode_timeout"),
        (Trick(os.abort), "decode_crash"),
        (Trick(os._exit, 0), "decode_crash"),
    ],
)
def test_a_decoder_that_hangs_or_dies_is_replaced(videos, trick, code):
    pool = DecoderPool(1, Limits(decode_timeout_s=4.0 if code == "decode_timeout" else 60))
    never = threading.Event()
    try:
        started = time.monotonic()
        with pool.open(videos / "bright.mp4", "a.mp4", never) as reader, pytest.raises(ApiError) as raised:
            reader.frames([0], transform=trick)
        process = reader._process.process
        assert raised.value.code == code
        assert time.monotonic() - started < 60
        assert not process.is_alive()
        pool._budget_s = 60
        with pool.open(videos / "bright.mp4", "a.mp4", never) as reader:
            assert reader.frames([0, 5]).shape == (2, 72, 96, 3)
    finally:
        pool.close()


def test_a_decoder_is_limited(videos, tmp_path):
    """Memory, and files: the process may not write any."""
    pool = DecoderPool(1, Limits(decode_memory_mb=24))
    never = threading.Event()
    try:
        with pytest.raises(ApiError) as raised, pool.open(videos / "levels.mp4", "a.mp4", never) as reader:
            reader.frames(list(range(150)) * 200)
        assert raised.value.code in ("decode_memory", "decode_crash")
        with pytest.raises(ApiError), pool.open(videos / "bright.mp4", "a.mp4", never) as reader:
            reader.frames([0], transform=Trick(Path.write_bytes, tmp_path / "x", b"x" * 100))
        assert not (tmp_path / "x").exists() or not (tmp_path / "x").read_bytes()
    finally:
        pool.close()


def test_a_cancelled_job_ends_its_decoder(videos):
    pool = DecoderPool(1, Limits())
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    started = time.monotonic()
    try:
        with pytest.raises(ApiError) as raised, pool.open(videos / "bright.mp4", "a.mp4", cancelled) as reader:
            reader.frames([0], transform=Trick(time.sleep, 60))
        assert raised.value.code == "cancelled"
        assert time.monotonic() - started < 60
    finally:
        pool.close()


# ---- addresses --------------------------------------------------------------------------------------------------------------


def test_addresses_are_off_unless_allowed(strict):
    body = json.dumps({"url": "http://example.com/a.mp4"}).encode()
    answer = strict.call("/v1/predict", body, {"Content-Type": "application/json"})
    assert "--allow-urls" in refused(answer, 403, "urls_off")


def test_addresses_into_the_local_network_are_refused():
    for number in [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fec0::1",  # site-local
        "feff::1",
        "::7f00:1",  # 127.0.0.1 as an IPv4-compatible address
        "64:ff9b:1::a00:1",  # local NAT64
        "3fff::1",  # documentation
        "5f00::1",
        "ff02::1",
    ]:
        assert not is_public(number), number
    assert is_public("1.1.1.1")
    assert is_public("2606:4700::1111")
    for url in (
        "http://127.0.0.1:8000/a",
        "http://localhost/a",
        "http://[::1]/a",
        "http://2130706433/a",  # 127.0.0.1 as one number
        "http://0x7f.1/a",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://1.1.1.1/a",
        "gopher://1.1.1.1/",
        "http://user:pw@1.1.1.1/",
        "http:///a",
        "http://1.1.1.1:99999/",
        "http://1.1.1.1/a b",
        "concat:http://1.1.1.1",
    ):
        with pytest.raises(ApiError) as raised:
            check_url(url)
        assert raised.value.code in ("url_refused", "url_failed"), url


class _Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        folder: Path = self.server.folder  # type: ignore[attr-defined]
        if self.path == "/ftp":
            self.send_response(302)
            self.send_header("Location", "ftp://1.1.1.1/a.mp4")
            self.end_headers()
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            except OSError:
                pass
        elif (folder / self.path[1:]).is_file():
            self.send_response(200)
            self.end_headers()
            self.wfile.write((folder / self.path[1:]).read_bytes())
        else:
            self.send_error(404)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def web(videos):
    """A web server on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    server.daemon_threads = True
    server.folder = videos  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_addresses_are_fetched_when_allowed(web, videos, tmp_path):
    limits = Limits(max_upload_mb=1, upload_timeout_s=3, idle_timeout_s=3)
    running, stop = start_server(limits, allow_urls=True, allow_private_urls=True)
    try:

        def post(content):
            return running.call("/v1/predict", json.dumps(content).encode(), {"Content-Type": "application/json"})

        status, _, answer = post({"urls": [f"{web}/bright.mp4", f"{web}/levels.mp4?x=1"]})
        assert status == 200
        assert [r.get("source") for r in answer["results"]] == ["bright.mp4", "levels.mp4"]
        assert answer["results"][0]["predictions"][0]["class"] == "bright"
        assert answer["results"][1]["error"]["code"] == "url_failed"  # the small server knows no query
        refused(post({"url": f"{web}/none.mp4"}), 502, "url_failed")
        refused(post({"url": f"{web}/loop"}), 502, "url_failed")
        assert "http" in refused(post({"url": f"{web}/ftp"}), 403, "url_refused")
        refused(post({"url": f"{web}/endless"}), 413, "too_large")
        refused(post({"url": f"{web}/drip"}), 408, "too_slow")
        for content in ({}, {"url": 3}, {"urls": []}, {"url": "http://a", "more": 1}, [], "x"):
            refused(post(content), 400, "bad_request")
        answer = running.call("/v1/predict", b"[" * 60000, {"Content-Type": "application/json"})
        refused(answer, 400, "bad_request")
        refused(post({"url": "x" * 70000}), 413, "too_large")
    finally:
        stop()


def test_redirects_are_checked_again(web, tmp_path, monkeypatch):
    """A public address that redirects into the local network; here the first hop is let through by hand."""
    from clipwise.serve import fetch

    seen = []

    def check(url, *, allow_private=False):
        seen.append(url)
        return check_url(url, allow_private=len(seen) == 1)

    monkeypatch.setattr(fetch, "check_url", check)
    with pytest.raises(ApiError) as raised:
        fetch_url(f"{web}/loop", tmp_path / "x", Limits())
    assert raised.value.code == "url_refused"
    assert len(seen) == 2


def test_the_form_helper_is_right():
    """The tests' own multipart body, against the standard library's reader."""
    import email.parser
    import email.policy

    body, kind = form([("a.mp4", b"\r\n--x"), ("b.mp4", b"")])
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body
    )
    assert [part.get_filename() for part in message.iter_parts()] == ["a.mp4", "b.mp4"]

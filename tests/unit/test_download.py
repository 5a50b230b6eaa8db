"""A local server stands in for the download host: right file, wrong file, broken and resumed connection, 404, offline."""

import hashlib
import http.server
import threading

import pytest

from clipwise.errors import CheckpointError
from clipwise.io import download as dl

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"weights-{DIGEST}.pth"


class Host(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT under /path/NAME; the server's ``plan`` says how each request is spoilt."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers.get("Range")))
        action = server.plan.pop(0) if server.plan else "good"
        if action == "404" or not self.path.endswith(NAME):
            self.send_error(404)
            return
        if action == "ftp":
            self.send_response(302)
            self.send_header("Location", f"ftp://127.0.0.1:1/{NAME}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if action == "500":
            self.send_error(503)
            return
        content = CONTENT if action != "other" else b"x" * len(CONTENT)
        start = 0
        wanted = self.headers.get("Range")
        if wanted and action != "no-range":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if action == "break" else body)
        if action == "break":
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def host():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.plan, server.seen = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/path/{NAME}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(dl.time, "sleep", lambda _: None)
    monkeypatch.delenv("CLIPWISE_MIRROR", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


def fetch(host, tmp_path, **kwargs):
    return dl.download(host.url, tmp_path / NAME, DIGEST, progress=lambda *_: None, **kwargs)


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_right_file_is_fetched_once(host, tmp_path):
    target = fetch(host, tmp_path)
    assert target.read_bytes() == CONTENT
    fetch(host, tmp_path)
    assert len(host.seen) == 1
    assert leftovers(tmp_path) == [NAME]


def test_wrong_file_is_refused_and_not_kept(host, tmp_path):
    host.plan = ["other"]
    with pytest.raises(CheckpointError, match=f"SHA-256 begins with [0-9a-f]{{8}}, not {DIGEST}"):
        fetch(host, tmp_path)
    assert leftovers(tmp_path) == []


def test_broken_connection_is_resumed_where_it_broke(host, tmp_path):
    host.plan = ["break", "break"]
    assert fetch(host, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in host.seen] == [None, "bytes=524288-", "bytes=786432-"]


def test_resumed_by_a_later_run(host, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    assert fetch(host, tmp_path).read_bytes() == CONTENT
    assert host.seen == [(f"/path/{NAME}", "bytes=1000-")]


def test_part_of_another_file_is_thrown_away(host, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"?" * 1000)
    assert fetch(host, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in host.seen] == ["bytes=1000-", None]


def test_part_longer_than_the_file(host, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT + b"more")
    assert fetch(host, tmp_path).read_bytes() == CONTENT


def test_server_without_ranges_starts_over(host, tmp_path):
    host.plan = ["break", "no-range"]
    assert fetch(host, tmp_path).read_bytes() == CONTENT


def test_busy_server_is_asked_again(host, tmp_path):
    host.plan = ["500", "500"]
    assert fetch(host, tmp_path).read_bytes() == CONTENT


def test_404_says_what_to_do_by_hand(host, tmp_path):
    host.plan = ["404"]
    with pytest.raises(CheckpointError) as caught:
        fetch(host, tmp_path)
    message = str(caught.value)
    assert "the server says 404" in message
    assert f"fetch {host.url} elsewhere and put it at {tmp_path / NAME}" in message


def test_redirect_to_ftp_is_refused(host, tmp_path):
    host.plan = ["ftp"]
    with pytest.raises(CheckpointError, match="redirects to a ftp address; only http and https"):
        fetch(host, tmp_path)
    assert len(host.seen) == 1


def test_offline(host, tmp_path):
    address = f"http://127.0.0.1:1/path/{NAME}"
    with pytest.raises(CheckpointError, match=r"(?s)no connection.*put it at"):
        dl.download(address, tmp_path / NAME, DIGEST, progress=lambda *_: None)


def test_a_file_put_there_by_hand_is_checked(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    assert dl.download("http://127.0.0.1:1/x", tmp_path / NAME, DIGEST) == tmp_path / NAME
    (tmp_path / NAME).write_bytes(b"another")
    with pytest.raises(CheckpointError, match="is not the published file"):
        dl.download("http://127.0.0.1:1/x", tmp_path / NAME, DIGEST)


def test_mirrors_come_first_and_may_be_a_folder(host, tmp_path, monkeypatch):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("CLIPWISE_MIRROR", f"{shelf}, {host.url.rsplit('/path', 1)[0]}/mirror")
    target = dl.download(f"http://127.0.0.1:1/path/{NAME}", tmp_path / NAME, DIGEST, progress=lambda *_: None)
    assert target.read_bytes() == CONTENT
    assert host.seen[0][0] == f"/mirror/path/{NAME}"
    target.unlink()
    (shelf / NAME).write_bytes(CONTENT)
    host.seen.clear()
    dl.download(f"http://127.0.0.1:1/path/{NAME}", target, DIGEST, progress=lambda *_: None)
    assert target.read_bytes() == CONTENT
    assert not host.seen


def test_two_at_once_fetch_one(host, tmp_path):
    problems = []

    def work():
        try:
            fetch(host, tmp_path)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(host.seen) == 1


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CLIPWISE_CACHE", raising=False)
    assert dl.cache_folder() == tmp_path / "clipwise"
    monkeypatch.setenv("CLIPWISE_CACHE", str(tmp_path / "own"))
    assert dl.cache_folder() == tmp_path / "own"

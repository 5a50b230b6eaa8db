"""A server that speaks as much of the Hugging Face Hub's protocol as uploads and downloads need, written from its documentation.

Repositories live in memory: revision -> {path: bytes}. Large files come by git-lfs's batch API, small ones inside the commit.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_secret"


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.lfs_from = 1000
        self.spoilt: str | None = None  # how downloads go wrong
        self.cut_after: int | None = None  # bytes of the next download after which the connection breaks
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def commit_of(self, repo: str, revision: str) -> str:
        files = self.repos[repo][revision]
        text = json.dumps({name: hashlib.sha1(data).hexdigest() for name, data in sorted(files.items())})
        return hashlib.sha1(text.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *args):
        self.server.requests.append(f"{self.command} {self.path}")

    def answer(self, status, body=b"", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(data)))
        if not isinstance(body, bytes):
            headers.setdefault("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            cut = self.server.cut_after if "/resolve/" in self.path else None
            self.wfile.write(data[:cut])
            if cut is not None:
                self.server.cut_after, self.close_connection = None, True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self):
        body, path = self.body(), self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            wrong = "library_name" not in json.loads(body)["content"]
            return self.answer(
                400 if wrong else 200, {"errors": [{"message": "no library_name"}] if wrong else [], "warnings": []}
            )
        if not self.allowed:
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo in self.server.repos:
                return self.answer(409, {"error": "exists", "url": f"{self.server.url}/{repo}"})
            self.server.repos[repo] = {"main": {}}
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(repo)
            return self.answer(200, {"url": f"{self.server.url}/{repo}", "name": repo, "id": repo})
        if match := re.fullmatch(r"/api/models/(.+)/branch/(.+)", path):
            branches = self.server.repos[match[1]]
            branches.setdefault(unquote(match[2]), dict(branches["main"]))
            return self.answer(200, {})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/(.+)", path):
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["size"] >= self.server.lfs_from else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for f in files
            ]
            return self.answer(200, {"files": modes})
        if match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            asked = json.loads(body)
            objects = [
                {"oid": o["oid"], "size": o["size"]}
                | (
                    {}
                    if o["oid"] in self.server.blobs
                    else {"actions": {"upload": {"href": f"{self.server.url}/blobs/{o['oid']}"}}}
                )
                for o in asked["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/(.+)/commit/(.+)", path):
            repo, revision = match[1], unquote(match[2])
            files = self.server.repos[repo][revision]
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                elif item["key"] == "lfsFile":
                    files[item["value"]["path"]] = self.server.blobs[item["value"]["oid"]]
            commit = self.server.commit_of(repo, revision)
            return self.answer(
                200, {"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit, "success": True}
            )
        return self.answer(404, {"error": path})

    def do_PUT(self):
        data = self.body()
        oid = self.path.rsplit("/", 1)[-1]
        if hashlib.sha256(data).hexdigest() != oid:
            return self.answer(400, {"error": "checksum"})
        self.server.blobs[oid] = data
        return self.answer(200)

    def answer_spoilt(self, how: str) -> None:
        page, announced = (
            b"<html>log in to the hotel's network</html>",
            {"ETag": f'"{"0" * 64}"', "X_Repo_Commit": "a" * 40},
        )
        if how.isdigit():
            return self.answer(int(how), {"error": "no"})
        if how == "page":
            return self.answer(200, page, Content_Type="text/html")
        if how == "page for weights":
            return self.answer(200, page, **{**announced, "ETag": '"abc"'})
        if how == "loop":
            return self.answer(302, b"", Location=self.path, **announced)
        if how == "reset" and self.command == "GET":
            self.answer(200, b"half", **{**announced, "Content-Length": "5000"})
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return None
        return self.answer(200, b"" if how == "empty" else b"other weights", **announced)

    def do_GET(self):
        if self.server.spoilt and "/resolve/" in self.path:
            return self.answer_spoilt(self.server.spoilt)
        path = unquote(self.path.partition("?")[0])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if match[1] not in self.server.repos:
                return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return self.answer(
                200, {"id": match[1], "sha": self.server.commit_of(match[1], match[2] or "main"), "siblings": []}
            )
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if match is None:
            return self.answer(404, {"error": path})
        repo, revision, name = match.groups()
        if repo not in self.server.repos or (repo in self.server.private and not self.allowed):
            return self.answer(
                401 if not self.allowed else 404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound"
            )
        revisions = self.server.repos[repo]
        found = next((r for r in revisions if r == revision or self.server.commit_of(repo, r) == revision), None)
        if found is None:
            return self.answer(404, {"error": "no revision"}, X_Error_Code="RevisionNotFound")
        commit = self.server.commit_of(repo, found)
        if name not in revisions[found]:
            return self.answer(404, {"error": "no file"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = revisions[found][name]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range") or "") or [0, 0])[1])
        self.answer(
            206 if start else 200,
            data[start:],
            ETag=etag,
            X_Repo_Commit=commit,
            Content_Type="application/octet-stream",
        )

    do_HEAD = do_GET  # noqa: N815

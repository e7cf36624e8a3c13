"""A hub on 127.0.0.1 for tests: repositories in memory, the parts of its protocol that fetching needs, and faults on demand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 2_000
"""Bytes from which a file is stored as the hub stores large ones: known by its SHA-256."""


@dataclass
class Repo:
    files: dict[str, bytes]
    card: dict[str, object] = field(default_factory=dict)
    commit: str = ""

    def __post_init__(self) -> None:
        self.commit = self.commit or hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass
class Hub:
    """`repos` by name; `faults` maps a fault to the number of requests that it still hits (see `Handler.fault`)."""

    repos: dict[str, Repo] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    address: str = ""
    lies: dict[str, bytes] = field(default_factory=dict)
    """Name of a file -> what is sent in its place."""

    def hit(self, fault: str) -> bool:
        left = self.faults.get(fault, 0)
        if left:
            self.faults[fault] = left - 1
        return left > 0


def _is_large(content: bytes) -> bool:
    return len(content) >= LARGE


def etag(content: bytes) -> str:
    if _is_large(content):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(" ".join(filter(None, (self.command, path, self.headers.get("Range")))))
        for status in (401, 403, 404, 429, 500, 503):
            if hub.hit(f"{status}") or ("/resolve/" in path and body and hub.hit(f"{status} body")):
                more = {"Retry-After": str(hub.faults["retry after"])} if "retry after" in hub.faults else {}
                if status == 403:
                    more["X-Error-Code"] = "GatedRepo"
                return self._send(status, b"{}", more)
        if hub.hit("slow"):
            threading.Event().wait(1.0)
        if match := re.fullmatch(r"/api/models/(.+?)/revision/(.+)", path):
            return self._info(match[1], match[2])
        if match := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            return self._file(match[1], match[2], match[3], body)
        return self._send(404, b"{}")

    def _find(self, name: str, revision: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._send(401, b'{"error":"Invalid username or password."}')
            return None
        if revision not in ("main", repo.commit):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo

    def _info(self, name: str, revision: str) -> None:
        repo = self._find(name, revision)
        if repo is None:
            return
        siblings = []
        for file, content in repo.files.items():
            entry: dict[str, object] = {"rfilename": file, "size": len(content), "blobId": "0" * 40}
            if _is_large(content):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        info = {"id": name, "modelId": name, "sha": repo.commit, "private": False, "tags": [], "siblings": siblings, "cardData": repo.card}
        if self.hub.hit("not json"):
            return self._send(200, b"<html>sign in to the network</html>")
        self._send(200, json.dumps(info).encode())

    def _file(self, name: str, revision: str, file: str, body: bool) -> None:
        repo = self._find(name, revision)
        if repo is None:
            return
        if file not in repo.files:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit})
        whole = repo.files[file]
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{etag(whole)}"', "Accept-Ranges": "bytes"}
        if _is_large(whole):
            headers |= {"X-Linked-Etag": f'"{etag(whole)}"', "X-Linked-Size": str(len(whole))}
        content, status, start = self.hub.lies.get(file, whole), 200, 0
        if (wanted := self.headers.get("Range")) and "no range" not in self.hub.faults:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        content = content[start:]
        if body and self.hub.hit("half"):
            return self._send(status, content, headers, only=len(content) // 2)
        self._send(status, content, headers, body=body)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, *, body: bool = True, only: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if only is not None:
            self.send_header("Connection", "close")
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content if only is None else content[:only])
            self.hub.sent += len(content if only is None else content[:only])
        if only is not None:
            self.close_connection = True


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A running hub; its threads end with the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfThisHub", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    # a client that goes away in the middle is what some tests are about
    server.handle_error = lambda *args: None
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A hub of models on this machine: the two answers that fetching needs, over HTTP.

A repository is its files; a refusal is what the hub answers instead. A connection breaks off where
it is told to, once. Knows nothing of this runtime.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HubServer", "Refusal", "served_hub"]


@dataclass(frozen=True)
class Refusal:
    status: int
    code: str  # of the header X-Error-Code


@dataclass
class HubServer:
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    breaks_after: dict[str, int] = field(default_factory=dict)  # by file: bytes of its first answer
    claimed_sizes: dict[str, int] = field(default_factory=dict)
    sent: list[tuple[str, int]] = field(default_factory=list)  # files, and where their bytes began
    endpoint: str = ""

    def commit(self, repo: str) -> str:
        content = b"".join(self.repositories[repo].values())
        return hashlib.sha1(repo.encode() + content).hexdigest()


@contextmanager
def served_hub() -> Iterator[HubServer]:
    hub = HubServer()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        is_listing = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if is_listing else parts[:2])
        rest = parts[4:] if is_listing else parts[2:]
        refusal = self.state.refusals.get(repo)
        if repo not in self.state.repositories:
            refusal = refusal or Refusal(401, "RepoNotFound")
        elif rest and rest[1] not in ("main", self.state.commit(repo)):
            refusal = refusal or Refusal(404, "RevisionNotFound")
        if refusal is not None:
            self._head(refusal.status, 0, {"X-Error-Code": refusal.code, "X-Error-Message": "no"})
        elif is_listing:
            self._list(repo)
        else:
            self._file(repo, "/".join(rest[2:]), with_body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _list(self, repo: str) -> None:
        sizes = self.state.claimed_sizes
        files = [
            {"rfilename": name, "size": sizes.get(name, len(content)), "blobId": "0"}
            for name, content in self.state.repositories[repo].items()
        ]
        body = json.dumps({"id": repo, "sha": self.state.commit(repo), "siblings": files}).encode()
        self._head(200, len(body), {"Content-Type": "application/json"})
        self.wfile.write(body)

    def _file(self, repo: str, name: str, with_body: bool) -> None:
        content = self.state.repositories[repo].get(name)
        headers = {"X-Repo-Commit": self.state.commit(repo), "Accept-Ranges": "bytes"}
        if content is None:
            self._head(404, 0, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._head(206 if begin else 200, len(content) - begin, headers)
        if not with_body:
            return
        self.state.sent.append((name, begin))
        end = self.state.breaks_after.pop(name, len(content))
        self.wfile.write(content[begin:end])
        self.close_connection = end < len(content)

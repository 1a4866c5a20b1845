"""The Hugging Face hub and Kaggle on this machine: enough of their protocols for their own clients, and their faults.

    with Hub() as hub:
        hub.repositories["org/name"] = Repository({"config.json": b"{}"})
        # HF_ENDPOINT=hub.url; kagglesdk's table of endpoints -> hub.url
        hub.requests  # what was asked for

It listens on 127.0.0.1 alone, in daemon threads, and stops with the `with` block. The hubs' clients read their settings
when they are imported: a test asks them in a `Process` of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
LARGE = (".safetensors", ".bin", ".h5")  # what the Hugging Face hub keeps in LFS, by SHA-256


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def large_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_of(directory: Path) -> dict[str, bytes]:
    files = (file for file in sorted(directory.rglob("*")) if file.is_file())
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Of a process whose clients of hubs have these settings and keep everything in `home`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "KAGGLE"))}
    plain |= {"HF_HOME": str(home / "hf"), "KAGGLEHUB_CACHE": str(home / "kaggle"), "HOME": str(home)}
    # `Hub` has no Xet, the store of chunks that the client prefers for uploads.
    plain |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}
    plain |= {"HF_HUB_ETAG_TIMEOUT": "1000", "HF_HUB_DOWNLOAD_TIMEOUT": "1000"}  # of a machine of any load
    return plain | settings


class Process:
    """A process in such an environment, whose code answers each line of JSON with another."""

    def __init__(self, code: str, home: Path, **settings: str) -> None:
        command, pipe, env = [sys.executable, "-c", code], subprocess.PIPE, environment(home, **settings)
        self.process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def ask(self, question: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


@dataclass
class Repository:
    """Files at one commit, which is that of `main` and of itself; for Kaggle, the files of each version."""

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    token: str | None = None  # which alone may read it
    gated: bool = False
    private: bool = False  # as it was made
    status: int = 0  # answered to everything, where it isn't 0
    breaks: dict[str, int] = field(default_factory=dict)  # file -> after how many bytes the connection breaks, once
    sent: dict[str, bytes] = field(default_factory=dict)  # file -> what is sent in its place, under its hash and size
    sizes: dict[str, int] = field(default_factory=dict)  # file -> the size that is told of it
    slow: dict[str, float] = field(default_factory=dict)  # file -> seconds between two bytes that are sent
    branches: set[str] = field(default_factory=lambda: {"main"})
    versions: dict[int, dict[str, bytes]] = field(default_factory=dict)


class Hub:
    """The server."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range
        self.uploads: dict[str, bytes] = {}
        self.bodies: list[tuple[str, Any]] = []  # path and JSON of what Kaggle's client posts
        hub = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.hub = hub
                super().__init__(*args)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that went away
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.cdn = f"http://localhost:{self.port}/cdn"  # under another name, as large files have another host

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def downloads(self, repository: str = "") -> list[str]:
        """The files whose content was asked for."""
        return [path.rpartition("/")[2] for method, path, _ in self.requests if method == "GET" and repository in path]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    # --- reading

    def _read(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if path == "/api/agent-harnesses":  # huggingface_hub asks for it by itself, once a day for each home
            return self.answer(404)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            name = "/".join(parts[1:3])
            return self._send(self.hub.repositories[name], "/".join(parts[3:]))
        if parts[0] == "kaggle":
            name = "/".join(parts[1:5])
            repository = self.hub.repositories[name]
            return self._send(repository, "/".join(parts[6:]), repository.versions[int(parts[5])])
        if parts[0] == "api" and len(parts) >= 4 and parts[1] == "models":
            return self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        if len(parts) < 5 or parts[2] != "resolve":
            return self.answer(404)
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        repository = self._allowed(name, revision)
        if repository is None:
            return None
        known = {"X_Repo_Commit": repository.commit}
        if file not in repository.files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found", **known)
        content = repository.files[file]
        size = repository.sizes.get(file, len(content))
        if file.endswith(LARGE):
            linked = {"X_Linked_Etag": f'"{large_hash(content)}"', "X_Linked_Size": str(size)}
            return self.answer(302, Location=f"{self.hub.cdn}/{name}/{file}", **known, **linked)
        return self._send(repository, file, ETag=f'"{git_hash(content)}"', **known)

    def _allowed(self, name: str, revision: str) -> Repository | None:
        """The repository; None where an error was answered instead."""
        repository = self.hub.repositories.get(name)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository is not None and repository.status:
            return self.answer(repository.status)
        if repository is None or (repository.token and not given):
            return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if repository.token and given != repository.token:
            return self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
        if repository.gated:
            return self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        if revision not in (*repository.branches, repository.commit):
            return self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        return repository

    def _info(self, name: str, revision: str) -> None:
        repository = self._allowed(name, revision)
        if repository is not None:
            files = [{"rfilename": file} for file in repository.files]
            self.answer_json({"id": name, "modelId": name, "sha": repository.commit, "siblings": files})

    def _send(self, repository: Repository, file: str, files: dict[str, bytes] | None = None, **headers: str) -> None:
        whole = (repository.files if files is None else files)[file]
        checksum = base64.b64encode(hashlib.md5(whole).digest()).decode()
        whole = repository.sent.get(file, whole)
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        start = int(asked or 0)
        content = whole[start:]
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        headers |= {"Accept-Ranges": "bytes", "X-Goog-Hash": f"md5={checksum}"}
        stop = repository.breaks.pop(file, None) if self.command == "GET" else None
        pause = repository.slow.get(file) if self.command == "GET" else None
        if pause is not None:
            stop = 0
        if stop is None:
            return self.answer(206 if asked else 200, content, **headers)
        self.send_response(206 if asked else 200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content[:stop])
        self.wfile.flush()
        for byte in content if pause is not None else b"":
            time.sleep(pause)
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
        self.close_connection = True
        return None

    # --- writing

    def do_PUT(self) -> None:
        self.hub.uploads[self.path.rpartition("/")[2]] = self._body()
        self.hub.requests.append(("PUT", self.path, ""))
        self.answer(200)

    def do_POST(self) -> None:
        body = self._body()
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append(("POST", path, ""))
        parts = path.strip("/").split("/")
        if parts[0] == "v1":
            return self._kaggle(parts[2], json.loads(body))
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if path == "/api/validate-yaml":
            return self.answer_json({"errors": [], "warnings": []})
        if given != "writer":
            return self.answer(401, X_Error_Message="Invalid username or password.")
        if path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}"
            if name in self.hub.repositories:
                return self.answer_json({"error": "exists", "url": f"{self.hub.url}/{name}"}, 409)
            self.hub.repositories[name] = Repository(
                private=values.get("visibility") == "private" or values.get("private") is True
            )
            return self.answer_json({"url": f"{self.hub.url}/{name}", "name": name})
        name = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2]).removesuffix(".git")
        repository = self.hub.repositories[name]
        if "preupload" in parts:
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in files
            ]
            return self.answer_json({"files": modes})
        if parts[-1] == "batch":
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.answer_json({"transfer": "basic", "objects": objects})
        if parts[4] == "branch":
            repository.branches.add(parts[5])
            return self.answer_json({})
        if parts[4] == "commit":
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    repository.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    repository.files[value["path"]] = self.hub.uploads[value["oid"]]
            return self.answer_json(
                {"success": True, "commitOid": repository.commit, "commitUrl": f"{self.hub.url}/{name}/commit/x"}
            )
        return self.answer(404)

    def _kaggle(self, call: str, values: dict[str, Any]) -> None:
        self.hub.bodies.append((call, values))
        if call == "StartBlobUpload":
            token = f"token-{values['name']}"
            return self.answer_json({"token": token, "createUrl": f"{self.hub.url}/blobs/{token}"})
        if call in ("CreateModel", "CreateModelInstance", "CreateModelInstanceVersion"):
            return self.answer_json({"id": 1, "url": "https://www.kaggle.com/models/x"})
        framework = str(values.get("framework", "")).removeprefix("MODEL_FRAMEWORK_").lower()
        name = "/".join((values["ownerSlug"], values["modelSlug"], framework, values.get("instanceSlug", "")))
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self.answer_json({"code": 404, "message": "not found"}, 404)
        if repository.status:
            return self.answer_json({"code": repository.status, "message": "no"}, repository.status)
        if call == "GetModelInstance":
            return self.answer_json({"versionNumber": max(repository.versions)})
        version, file = values["versionNumber"], values.get("path")
        if file not in repository.versions.get(version, {}):
            return self.answer_json({"code": 404, "message": "not found"}, 404)
        return self.answer(302, Location=f"{self.hub.url}/kaggle/{name}/{version}/{file}")

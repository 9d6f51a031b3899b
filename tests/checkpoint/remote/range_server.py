"""A file server with range requests, in a thread, on 127.0.0.1: it records requests and can be told to misbehave."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class Asked:
    """One received request."""

    name: str
    headers: dict[str, str]


@dataclass
class RangeServer:
    """Serves `folder`. Use as a context manager; `url` ends with a slash.

    `trouble(asked, count)` may return what to do instead of answering properly; count: requests for that file so far.
      {"drop": n}     send n bytes of the body, then cut the connection
      {"status": s, "headers": {...}}   answer so, without the bytes
      {"whole": True} ignore the range: 200
      {"shift": n}    another range than the one asked for
      {"relabel": text}  this Content-Range instead
      {"etag": text}  another tag
      {"redirect": url}  302
      {"surplus": n}  n bytes more than announced, by a connection that simply ends
      {"headers": {...}}  these as well
    """

    folder: Path
    tags: str = "strong"  # "weak", "date" (no tag, but Last-Modified), "none"
    prefix: str = "/"
    trouble: Callable[[Asked, int], dict[str, Any] | None] = lambda asked, count: None
    asked: list[Asked] = field(default_factory=list)
    bytes_sent: int = 0  # of bodies
    extra: dict[str, Callable[[Asked], tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)

    def __enter__(self) -> "RangeServer":
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                path = unquote(self.path.partition("?")[0])
                name = path.removeprefix(outer.prefix)
                asked = Asked(name, {key.lower(): value for key, value in self.headers.items()})
                with lock:
                    outer.asked.append(asked)
                    count = sum(other.name == name for other in outer.asked)
                if path in outer.extra:
                    status, headers, body = outer.extra[path](asked)
                    self.answer(status, {"Content-Length": str(len(body))} | headers, body)
                    return
                self.serve(asked, path, outer.trouble(asked, count) or {})

            def serve(self, asked: Asked, path: str, trouble: dict[str, Any]) -> None:
                file = outer.folder / asked.name
                if "status" in trouble:
                    self.answer(trouble["status"], {"Content-Length": "0"} | trouble.get("headers", {}), b"")
                    return
                if "redirect" in trouble:
                    place = {"Location": trouble["redirect"], "Content-Length": "0"}
                    self.answer(302, place | trouble.get("headers", {}), b"")
                    return
                if not path.startswith(outer.prefix) or not file.is_file():
                    self.answer(404, {"Content-Length": "0"}, b"")
                    return
                data = file.read_bytes()
                headers = validators(file, data, outer.tags) | trouble.get("headers", {})
                if "etag" in trouble:
                    headers["ETag"] = trouble["etag"]
                tag, date = headers.get("ETag"), headers.get("Last-Modified")
                since = asked.headers.get("if-modified-since")
                if (tag and tag == asked.headers.get("if-none-match")) or (not tag and date and date == since):
                    self.answer(304, headers, b"")
                    return
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
                same = asked.headers.get("if-range", headers.get("ETag")) == headers.get("ETag")
                if wanted is None or not same or trouble.get("whole"):
                    self.answer(200, {"Content-Length": str(len(data))} | headers, data, trouble)
                    return
                first, last = int(wanted[1]) + trouble.get("shift", 0), min(int(wanted[2]), len(data) - 1)
                if first > last:
                    self.answer(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"}, b"")
                    return
                body = data[first : last + 1]
                label = {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Content-Length": str(len(body))}
                if "relabel" in trouble:
                    label["Content-Range"] = trouble["relabel"]
                self.answer(206, label | headers, body, trouble)

            def answer(self, status: int, headers: dict[str, str], body: bytes, trouble: dict[str, Any] = {}) -> None:  # noqa: B006
                if "surplus" in trouble:
                    headers = {key: value for key, value in headers.items() if key != "Content-Length"}
                    headers["Connection"] = "close"
                    body += bytes(trouble["surplus"])
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                stop = trouble.get("drop", len(body))
                try:
                    for begin in range(0, stop, 65536):
                        part = body[begin : min(begin + 65536, stop)]
                        with lock:  # first, so that the count is right as soon as the client has the bytes
                            outer.bytes_sent += len(part)
                        self.wfile.write(part)
                except OSError:
                    self.close_connection = True
                    return
                if stop < len(body) or "surplus" in trouble:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return self.root + self.prefix

    def reset(self) -> None:
        """Count from zero."""
        self.asked.clear()
        self.bytes_sent = 0

    def ranged(self) -> list[str]:
        """The files that were asked for by range, in order."""
        return [asked.name for asked in self.asked if "range" in asked.headers]

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def validators(file: Path, data: bytes, tags: str) -> dict[str, str]:
    """The server's headers for the version of a file."""
    import hashlib

    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(file.stat().st_mtime))
    return {
        "strong": {"ETag": tag, "Last-Modified": date},
        "weak": {"ETag": f"W/{tag}"},
        "date": {"Last-Modified": date},
        "none": {},
    }[tags]

"""A small object store that speaks enough of S3 to be listed and read by range; plain files by HTTP as well."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Store:
    """Objects by `bucket/key`, and how many bytes were sent."""

    port: int
    objects: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0


@contextmanager
def serving() -> Iterator[Store]:
    """A store on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            url = urlsplit(self.path)
            name, asked = url.path.strip("/"), parse_qs(url.query)
            if "list-type" in asked:
                return self.send(200, listing(store, name, asked.get("prefix", [""])[0]), {}, body=body)
            content = store.objects.get(name)
            if content is None:
                return self.send(404, b"<Error><Code>NoSuchKey</Code></Error>", {}, body=body)
            headers = {"ETag": tag(content), "Last-Modified": "Fri, 27 Nov 2026 10:00:00 GMT", "Accept-Ranges": "bytes"}
            if found := re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
                first = int(found[1]) if found[1] else max(0, len(content) - int(found[2]))
                last = min(int(found[2]), len(content) - 1) if found[1] and found[2] else len(content) - 1
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                return self.send(206, content[first : last + 1], headers, body=body)
            return self.send(200, content, headers, body=body)

        def send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            for each in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(*each)
            self.end_headers()
            if body:
                self.wfile.write(content)
                store.sent += len(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store = Store(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


def tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def listing(store: Store, bucket: str, prefix: str) -> bytes:
    """As ListObjectsV2 answers."""
    found = "".join(
        f"<Contents><Key>{name.removeprefix(bucket + '/')}</Key><LastModified>2026-11-27T10:00:00.000Z</LastModified>"
        f"<ETag>{tag(content)}</ETag><Size>{len(content)}</Size></Contents>"
        for name, content in sorted(store.objects.items())
        if name.startswith(f"{bucket}/{prefix}")
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()

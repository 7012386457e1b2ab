"""A stand-in for S3: lists and reads the files of a folder, whose folders are buckets. ``python stored.py FOLDER``."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = urlsplit(self.path)
        words = dict(parse_qsl(asked.query, keep_blank_values=True))
        bucket, _, key = unquote(asked.path).strip("/").partition("/")
        folder = Path(sys.argv[1]) / bucket
        if "list-type" in words:
            return self._answer(200, self._listing(folder, words).encode(), {})
        if not (folder / key).is_file():
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
        content, facts = (folder / key).read_bytes(), {"ETag": '"x"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if "Range" not in self.headers:
            return self._answer(200, content, facts)
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        start = int(first) if first else len(content) - int(last)
        end = min(int(last) + 1, len(content)) if first and last else len(content)
        facts["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self._answer(206, content[start:end], facts)

    do_HEAD = do_GET

    def _listing(self, folder, words):
        prefix, found, above = words.get("prefix", ""), [], {}
        for path in sorted(folder.rglob("*")):
            key = path.relative_to(folder).as_posix()
            if path.is_dir() or not key.startswith(prefix) or key <= words.get("start-after", ""):
                continue
            rest = key.removeprefix(prefix)
            if "delimiter" in words and "/" in rest:
                above[f"<CommonPrefixes><Prefix>{prefix}{rest.split('/')[0]}/</Prefix></CommonPrefixes>"] = None
            else:
                facts = f"<Size>{path.stat().st_size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                found.append(f"<Contents><Key>{key}</Key>{facts}</Contents>")
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join([*found, *above])}</ListBucketResult>"

    def _answer(self, status, content, facts):
        self.send_response(status)
        for name, value in (facts | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    print(server.server_port, flush=True)
    server.serve_forever()

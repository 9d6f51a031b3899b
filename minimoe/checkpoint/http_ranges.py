"""Bytes of a file on a server, asked for by range, and believed only if the answer is exactly what was asked for.

A ranged request has many answers that look like success: the whole file (200), another range, the same range of a newer
file, a compressed body, half of the bytes. Each of them would become wrong weights, so each is told apart here. What
passes by itself (a dropped connection, 5xx, 429) is tried again, from the byte that was reached.
RFC 9110, section 14: https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
"""

import email.utils
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import httpx
from tqdm.auto import tqdm

from minimoe.errors import MinimoeError, NotFound, NotSafetensors, ReadFailed

FIRST_BYTES = 100_000  # asked for at first: most headers are smaller than that
ATTEMPTS = 6  # in a row without progress; waits of 1, 2, 4, 8 and 16 seconds lie between them
PROGRESS = 2**20  # bytes after which failures are counted anew
LONGEST_WAIT = 300.0  # seconds
STEP = 2**18
PASSING = (408, 425, 429, 500, 502, 503, 504)
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Version(NamedTuple):
    """Which bytes a server means by an address: equal versions are the same file."""

    url: str
    size: int
    etag: str | None
    modified: str | None

    @property
    def is_durable(self) -> bool:
        """Whether a later run can recognise it. A weak tag alone promises no equal bytes, and a size no equality."""
        return self.modified is not None or (self.etag is not None and not self.etag.startswith("W/"))


class Passing(Exception):
    """What may be gone at the next try. `wait`: seconds that the server asks for, if it does."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class Forbidden(ReadFailed):
    """The server will not show this. Some stores say so where there is nothing."""


class Patience:
    """Counts failures in a row and waits between them. Raises ReadFailed when there were too many."""

    def __init__(self, url: str):
        self.url, self.failures = url, 0

    def wait(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        self.failures += 1
        if self.failures >= ATTEMPTS:
            raise ReadFailed(
                f"{self.url} could not be read: {reason}, {ATTEMPTS} times in a row. Try again later: what was read "
                "until now is kept."
            ) from error
        asked = error.wait if isinstance(error, Passing) else None
        seconds = 2.0 ** (self.failures - 1) if asked is None else asked
        if seconds > LONGEST_WAIT:
            raise ReadFailed(f"{self.url}: {reason}, and the server asks to wait {seconds:,.0f} s. Try again then.")
        if seconds >= 8:
            tqdm.write(f"{self.url}: {reason}; going on in {seconds:.0f} s", file=sys.stderr)
        pause(seconds)


def pause(seconds: float) -> None:
    """The one place that waits."""
    time.sleep(seconds)


class RangeClient:
    """One server's connections, shared by all threads. `headers` (a log-in) go to that server and nowhere else: httpx
    takes them off when it is redirected to another host. Counts `requests` and `bytes_fetched`.
    """

    def __init__(self, headers: Mapping[str, str] | None = None):
        timeout = httpx.Timeout(30, connect=15)
        plain = {"Accept-Encoding": "identity", "User-Agent": "minimoe"}
        self._client = httpx.Client(follow_redirects=True, timeout=timeout, headers=plain | dict(headers or {}))
        self._lock = threading.Lock()
        self.requests = self.bytes_fetched = 0

    def look(self, url: str, known: Version | None = None) -> tuple[Version, bytes]:
        """The file's version and its first bytes; if it still is `known`, that and nothing.

        Raises NotFound, and ReadFailed, also where the server knows no ranges: nothing is downloaded then.
        """
        patience, last = Patience(url), FIRST_BYTES - 1
        asked = {"Range": f"bytes=0-{last}"} | unless_still(known)
        while True:
            try:
                with self.ask(url, asked) as response:
                    if known and response.status_code == 304:
                        return known, b""
                    if response.status_code == 416 and response.headers.get("content-range") == "bytes */0":
                        return Version(url, 0, *validators(response)), b""
                    version = check_answer(response, url, 0, last, None)
                    head = b"".join(self.chunks(response, min(last + 1, version.size)))
                    return version, head
            except (Passing, httpx.TransportError) as error:
                patience.wait(error)

    def fetch(self, version: Version, destination: memoryview, offset: int) -> None:
        """Fill `destination` with the bytes from `offset` on, of this version and no other. Raises ReadFailed,
        NotFound.
        """
        done, total, patience = 0, len(destination), Patience(version.url)
        while done < total:
            begin = done
            first, last = offset + done, offset + total - 1
            asked = {"Range": f"bytes={first}-{last}"} | only_if_still(version)
            try:
                with self.ask(version.url, asked) as response:
                    check_answer(response, version.url, first, last, version)
                    for chunk in self.chunks(response, total - done):
                        destination[done : done + len(chunk)] = chunk
                        done += len(chunk)
            except (Passing, httpx.TransportError) as error:
                if done - begin >= PROGRESS:
                    patience.failures = 0
                patience.wait(error)

    def whole(self, url: str, limit: int, headers: Mapping[str, str]) -> tuple[bytes, str | None, str | None] | None:
        """A small file in one piece with its tag and its time of change; None if the server says that the one described
        by `headers` still is the right one (304). Raises NotFound, ReadFailed, NotSafetensors (a web page).
        """
        patience = Patience(url)
        while True:
            try:
                with self.ask(url, headers) as response:
                    if response.status_code == 304:
                        return None
                    if response.status_code != 200:
                        raise refusal(response, url)
                    if response.headers.get("content-type", "").startswith("text/html"):
                        raise NotSafetensors(f"{url} is a web page. Give the address of the folder with the files.")
                    parts, count = [], 0
                    for chunk in response.iter_bytes(STEP):
                        parts.append(chunk)
                        count += len(chunk)
                        if count > limit:
                            raise ReadFailed(f"{url} is larger than the {limit:,} bytes that such a file may have.")
                    self.count(bytes_fetched=count)
                    return b"".join(parts), *validators(response)
            except (Passing, httpx.TransportError) as error:
                patience.wait(error)

    @contextmanager
    def ask(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """One GET. Leaving without reading closes the connection, so a body nobody wants is not downloaded."""
        self.count(requests=1)
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                if url.startswith("https:") and response.url.scheme != "https":
                    raise ReadFailed(f"{url} leads to {response.url}, which is not encrypted. Ask for another address.")
                if response.status_code in PASSING:
                    raise Passing(f"the server answers {status(response)}", retry_after(response))
                yield response
        except httpx.UnsupportedProtocol as error:
            raise ReadFailed(f"{url} cannot be followed: {error}. Check the address.") from error
        except httpx.TransportError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ReadFailed(f"{url} cannot be read: {error or type(error).__name__}. Check the address.") from error

    def chunks(self, response: httpx.Response, count: int) -> Iterator[bytes]:
        """The body, which must be exactly `count` bytes. Raises Passing if it ends early, ReadFailed if it goes on."""
        left = count
        for chunk in response.iter_raw(STEP):
            left -= len(chunk)
            if left < 0:
                raise ReadFailed(f"{response.request.url}: the server sends more bytes than the range it announced.")
            self.count(bytes_fetched=len(chunk))
            yield chunk
        if left:
            raise Passing(f"the answer ended {left:,} bytes early")

    def count(self, requests: int = 0, bytes_fetched: int = 0) -> None:
        with self._lock:
            self.requests += requests
            self.bytes_fetched += bytes_fetched


def check_answer(response: httpx.Response, url: str, first: int, last: int, version: Version | None) -> Version:
    """The version that a 206 belongs to, if it is that range of the expected version. Raises ReadFailed, NotFound."""
    code, headers = response.status_code, response.headers
    changed = ReadFailed(f"{url} was changed on the server while it was being read. Start again.")
    if code in (412, 416) and version is not None:
        raise changed
    if code == 200:
        if version is not None and validators(response) != (version.etag, version.modified):
            raise changed
        raise ReadFailed(
            f"{url}: the server answers a request for {last + 1 - first:,} bytes with the whole file (200, not 206), "
            "so it cannot be read piece by piece. Download the folder, or use a server that supports ranges."
        )
    if code != 206:
        raise refusal(response, url)
    match = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or headers.get("content-encoding", "identity") != "identity":
        raise ReadFailed(
            f"{url}: the server answers 206 with Content-Range {headers.get('content-range')!r} and Content-Encoding "
            f"{headers.get('content-encoding')!r}, expected one plain range. Download the folder instead."
        )
    begin, end, size = (int(number) for number in match.groups())
    found = Version(url, size, *validators(response))
    if version is not None and found != version:
        raise changed
    if (begin, end) != (first, last if version is not None else min(last, size - 1)):
        raise ReadFailed(
            f"{url}: asked for bytes {first:,} to {last:,}, the server sends {begin:,} to {end:,}. "
            "Download the folder, or use a server that supports ranges."
        )
    return found


def refusal(response: httpx.Response, url: str) -> MinimoeError:
    """The error for an answer that is neither the bytes nor a passing trouble."""
    if response.status_code in (404, 410):
        return NotFound(f"{url} does not exist ({status(response)}). Check the address.")
    sentence = f"{url}: the server answers {status(response)}."
    if response.status_code in (401, 403):
        return Forbidden(f"{sentence} If a model is gated or private: accept its terms and run `hf auth login`.")
    return ReadFailed(f"{sentence} Check the address.")


def validators(response: httpx.Response) -> tuple[str | None, str | None]:
    """(ETag, Last-Modified). The hub redirects to a store whose own tag may differ from node to node; the content's
    hash, which the hub sends along with the redirect, comes first.
    """
    for hop in response.history:
        linked = hop.headers.get("x-linked-etag", "").strip('"')
        if HASH.fullmatch(linked):
            return f'linked "{linked}"', None
    return response.headers.get("etag"), response.headers.get("last-modified")


def only_if_still(version: Version) -> dict[str, str]:
    """If-Range takes a strong tag only; other versions are recognised by what the answer says of itself."""
    return {"If-Range": version.etag} if version.etag and version.etag.startswith('"') else {}


def unless_still(version: Version | None) -> dict[str, str]:
    """The headers by which a server can say 304: you have it."""
    if version is None or not version.is_durable:
        return {}
    if version.etag is not None:
        return {"If-None-Match": version.etag} if version.etag.startswith('"') else {}
    return {"If-Modified-Since": version.modified or ""}


def status(response: httpx.Response) -> str:
    """Such as "404 Not Found"."""
    return f"{response.status_code} {response.reason_phrase}".strip()


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of Retry-After (a number, or a date); None without one."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return max(0.0, then - time.time())

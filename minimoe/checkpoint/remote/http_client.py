"""HTTP range requests for the bytes of a file on a server.

Transient errors (a dropped connection, 5xx, 429) are retried from the last byte received. A response with the wrong
bytes is an error (see `range_response`). This is own code, not fsspec or huggingface_hub, because neither compares the
version (ETag) of every response, so a file that is replaced during a run would yield a mixture of two.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
from tqdm.auto import tqdm

from minimoe.checkpoint.remote.range_response import (
    TransientError,
    Version,
    check_response,
    error_for,
    if_modified_headers,
    if_range_headers,
    retry_after,
    status,
    validators,
)
from minimoe.errors import NotSafetensors, ReadFailed

FIRST_BYTES = 100_000  # size of the first request: most headers are smaller
ATTEMPTS = 6  # consecutive attempts without progress, with waits of 1, 2, 4, 8 and 16 seconds between them
PROGRESS = 2**20  # bytes after which the count of failures is reset
LONGEST_WAIT = 300.0  # seconds
TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)


class Backoff:
    """Exponential backoff: counts consecutive failures and waits between them. Raises ReadFailed after too many."""

    def __init__(self, url: str):
        self.url, self.failures = url, 0

    def wait(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        self.failures += 1
        if self.failures >= ATTEMPTS:
            raise ReadFailed(
                f"{self.url} could not be read: {reason}, {ATTEMPTS} times in a row. Try again later; the bytes "
                "received so far are cached."
            ) from error
        requested = error.wait if isinstance(error, TransientError) else None
        seconds = min(2.0 ** (self.failures - 1), LONGEST_WAIT) if requested is None else requested
        if seconds > LONGEST_WAIT:
            raise ReadFailed(f"{self.url}: {reason}, and the server asks to wait {seconds:,.0f} s. Try again then.")
        if seconds >= 8:
            tqdm.write(f"{self.url}: {reason}; retrying in {seconds:.0f} s", file=sys.stderr)
        pause(seconds)
        check_cancelled(self.url)


class Worker(threading.local):
    """State of the current thread. `cancelled`: in a worker thread, set when the caller no longer needs the bytes."""

    cancelled: threading.Event | None = None


WORKER = Worker()


def start_worker(cancelled: threading.Event) -> None:
    """Make the current thread a worker: its reads are cancelled when the event is set."""
    WORKER.cancelled = cancelled


def pause(seconds: float) -> None:
    """Sleep; in a worker thread, until it is cancelled at the latest."""
    if WORKER.cancelled is None:
        time.sleep(seconds)
    else:
        WORKER.cancelled.wait(seconds)


def check_cancelled(url: str) -> None:
    """Raise ReadFailed if the caller this worker reads for has cancelled."""
    if WORKER.cancelled is not None and WORKER.cancelled.is_set():
        raise ReadFailed(f"{url}: the read was cancelled.")


class RangeClient:
    """The connections to one server, shared by all threads. Counts `requests` and `bytes_fetched`.

    `headers` (credentials) are sent to that server only: httpx removes them on a redirect to another host.
    """

    def __init__(self, headers: Mapping[str, str] | None = None):
        timeout = httpx.Timeout(30, connect=15)
        plain = {"Accept-Encoding": "identity", "User-Agent": "minimoe"}
        self._client = httpx.Client(follow_redirects=True, timeout=timeout, headers=plain | dict(headers or {}))
        self._lock = threading.Lock()
        self.requests = self.bytes_fetched = 0
        self._was_reached = False

    def look(self, url: str, known: Version | None = None) -> tuple[Version, bytes]:
        """The file's version and its first bytes; `known` and no bytes if the version is unchanged.

        Raises NotFound, and ReadFailed, also for a server without range support: nothing is downloaded then.
        """
        backoff, last = Backoff(url), FIRST_BYTES - 1
        headers = {"Range": f"bytes=0-{last}"} | if_modified_headers(known)
        while True:
            try:
                with self.get(url, headers) as response:
                    if known and response.status_code == 304:
                        return known, b""
                    if response.status_code == 416 and response.headers.get("content-range") == "bytes */0":
                        return Version(url, 0, *validators(response)), b""
                    version = check_response(response, url, 0, last, None)
                    head = b"".join(self.chunks(response, min(last + 1, version.size)))
                    return version, head
            except (TransientError, httpx.TransportError) as error:
                backoff.wait(error)

    def fetch(self, version: Version, destination: memoryview, offset: int) -> None:
        """Fill `destination` with the bytes of exactly this version, starting at `offset`. Raises ReadFailed,
        NotFound.
        """
        done, total, backoff = 0, len(destination), Backoff(version.url)
        while done < total:
            begin = done
            first, last = offset + done, offset + total - 1
            headers = {"Range": f"bytes={first}-{last}"} | if_range_headers(version)
            try:
                with self.get(version.url, headers) as response:
                    check_response(response, version.url, first, last, version)
                    for chunk in self.chunks(response, total - done):
                        destination[done : done + len(chunk)] = chunk
                        done += len(chunk)
            except (TransientError, httpx.TransportError) as error:
                if done - begin >= PROGRESS:
                    backoff.failures = 0
                backoff.wait(error)

    def whole(self, url: str, limit: int, headers: Mapping[str, str]) -> tuple[bytes, str | None, str | None] | None:
        """A small file as (content, ETag, Last-Modified); None if the copy described by `headers` is current (304).

        Raises NotFound, ReadFailed, also above `limit` bytes, and NotSafetensors (a web page).
        """
        backoff = Backoff(url)
        while True:
            try:
                with self.get(url, headers) as response:
                    if response.status_code == 304:
                        return None
                    if response.status_code != 200:
                        raise error_for(response, url)
                    if response.headers.get("content-type", "").startswith("text/html"):
                        raise NotSafetensors(f"{url} is a web page. Give the address of the folder with the files.")
                    parts, count = [], 0
                    for chunk in response.iter_bytes():
                        parts.append(chunk)
                        count += len(chunk)
                        if count > limit:
                            raise ReadFailed(f"{url} is larger than {limit:,} bytes, the limit for such a file.")
                    self.count(bytes_fetched=count)
                    return b"".join(parts), *validators(response)
            except (TransientError, httpx.TransportError) as error:
                backoff.wait(error)

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """One GET request. Leaving the context closes the connection, so an unread body is not downloaded."""
        self.count(requests=1)
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                self._was_reached = True
                hops = [hop.url for hop in (*response.history, response)]
                if url.startswith("https:") and (bare := [hop for hop in hops if hop.scheme != "https"]):
                    raise ReadFailed(f"{url} redirects to {bare[0]}, which is not encrypted. Use another address.")
                if response.status_code in TRANSIENT_STATUS:
                    raise TransientError(f"the server responded {status(response)}", retry_after(response))
                yield response
        except httpx.UnsupportedProtocol as error:
            raise ReadFailed(f"{url} cannot be followed: {error}. Check the address.") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if self._was_reached:
                raise
            raise ReadFailed(f"{url} cannot be reached: {error}. Check the address and the network.") from error
        except httpx.TransportError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ReadFailed(f"{url} cannot be read: {error or type(error).__name__}. Check the address.") from error

    def chunks(self, response: httpx.Response, count: int) -> Iterator[bytes]:
        """The body in chunks. Raises TransientError if it is shorter than `count` bytes, ReadFailed if it is longer."""
        left = count
        for chunk in response.iter_raw():  # no chunk size: a buffered chunk would be lost when the connection drops
            check_cancelled(str(response.request.url))
            left -= len(chunk)
            if left < 0:
                raise ReadFailed(f"{response.request.url}: the server sent more bytes than the range it announced.")
            self.count(bytes_fetched=len(chunk))
            yield chunk
        if left:
            raise TransientError(f"the response ended {left:,} bytes early")

    def count(self, requests: int = 0, bytes_fetched: int = 0) -> None:
        with self._lock:
            self.requests += requests
            self.bytes_fetched += bytes_fetched

"""Bytes of a file on a server, asked for by range. What passes by itself (a dropped connection, 5xx, 429) is tried
again, from the byte that was reached; what would be wrong bytes is refused (`http_answers`).
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
from tqdm.auto import tqdm

from minimoe.checkpoint.remote.http_response import (
    Passing,
    Version,
    check_answer,
    only_if_still,
    refusal,
    retry_after,
    status,
    unless_still,
    validators,
)
from minimoe.errors import NotSafetensors, ReadFailed

FIRST_BYTES = 100_000  # asked for at first: most headers are smaller than that
ATTEMPTS = 6  # in a row without progress; waits of 1, 2, 4, 8 and 16 seconds lie between them
PROGRESS = 2**20  # bytes after which failures are counted anew
LONGEST_WAIT = 300.0  # seconds
PASSING = (408, 425, 429, 500, 502, 503, 504)


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
        seconds = min(2.0 ** (self.failures - 1), LONGEST_WAIT) if asked is None else asked
        if seconds > LONGEST_WAIT:
            raise ReadFailed(f"{self.url}: {reason}, and the server asks to wait {seconds:,.0f} s. Try again then.")
        if seconds >= 8:
            tqdm.write(f"{self.url}: {reason}; going on in {seconds:.0f} s", file=sys.stderr)
        pause(seconds)
        require_wanted(self.url)


class Reader(threading.local):
    """This thread. `given_up`: where it reads for another one, set as soon as that one no longer wants the bytes."""

    given_up: threading.Event | None = None


READER = Reader()


def read_for(given_up: threading.Event) -> None:
    """This thread reads for another one, as long as that event is not set."""
    READER.given_up = given_up


def pause(seconds: float) -> None:
    """The one place that waits, as long as the bytes are wanted."""
    if READER.given_up is None:
        time.sleep(seconds)
    else:
        READER.given_up.wait(seconds)


def require_wanted(url: str) -> None:
    """Raises ReadFailed, which nobody will see, where this thread reads for one that has given up."""
    if READER.given_up is not None and READER.given_up.is_set():
        raise ReadFailed(f"{url}: reading was given up.")


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
        self._was_reached = False

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
                    for chunk in response.iter_bytes():
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
                self._was_reached = True
                hops = [hop.url for hop in (*response.history, response)]
                if url.startswith("https:") and (bare := [hop for hop in hops if hop.scheme != "https"]):
                    raise ReadFailed(f"{url} leads to {bare[0]}, which is not encrypted. Ask for another address.")
                if response.status_code in PASSING:
                    raise Passing(f"the server answers {status(response)}", retry_after(response))
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
        """The body, which must be exactly `count` bytes. Raises Passing if it ends early, ReadFailed if it goes on."""
        left = count
        for chunk in response.iter_raw():  # with a size, what came before a drop would be lost in a buffer
            require_wanted(str(response.request.url))
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

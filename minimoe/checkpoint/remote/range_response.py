"""Validates the response to an HTTP range request.

Many wrong responses look like success: the whole file (200), another range, the same range of a newer file, a
compressed body. Each would yield wrong weights, so each is detected here.
RFC 9110, section 14: https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
"""

import email.utils
import re
import time
from typing import NamedTuple

import httpx

from minimoe.errors import MinimoeError, NotFound, ReadFailed

CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Version(NamedTuple):
    """The version of the file at a URL: equal versions have equal bytes."""

    url: str
    size: int
    etag: str | None
    modified: str | None

    @property
    def is_durable(self) -> bool:
        """Whether a later run can recognise this version. A weak ETag does not imply equal bytes, nor does a size."""
        return self.modified is not None or (self.etag is not None and not self.etag.startswith("W/"))


class TransientError(Exception):
    """A transient error. `wait`: seconds of the server's Retry-After header, if it sent one."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class Forbidden(ReadFailed):
    """Access denied (401, 403). Some stores send it for a file that does not exist."""


def check_response(response: httpx.Response, url: str, first: int, last: int, version: Version | None) -> Version:
    """Check that a response holds bytes `first` to `last` of `version` (None: of any version), and return its version.

    Raises ReadFailed, NotFound.
    """
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
        raise error_for(response, url)
    match = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or headers.get("content-encoding", "identity") != "identity":
        raise ReadFailed(
            f"{url}: the server responded 206 with Content-Range {headers.get('content-range')!r} and Content-Encoding "
            f"{headers.get('content-encoding')!r}, expected one uncompressed range. Download the folder instead."
        )
    begin, end, size = (int(number) for number in match.groups())
    received = Version(url, size, *validators(response))
    if version is not None and received != version:
        raise changed
    if (begin, end) != (first, last if version is not None else min(last, size - 1)):
        raise ReadFailed(
            f"{url}: requested bytes {first:,} to {last:,}, the server sent {begin:,} to {end:,}. "
            "Download the folder, or use a server that supports ranges."
        )
    return received


def error_for(response: httpx.Response, url: str) -> MinimoeError:
    """The error for a response that is neither success nor transient."""
    if response.status_code in (404, 410):
        return NotFound(f"{url} does not exist ({status(response)}). Check the address.")
    sentence = f"{url}: the server responded {status(response)}."
    if response.status_code in (401, 403):
        return Forbidden(f"{sentence} For a gated or private model, accept its terms and run `hf auth login`.")
    return ReadFailed(f"{sentence} Check the address.")


def validators(response: httpx.Response) -> tuple[str | None, str | None]:
    """(ETag, Last-Modified). The hub redirects to a store whose ETag may differ between nodes, so the content hash in
    the hub's redirect (X-Linked-Etag) takes precedence.
    """
    for hop in response.history:
        linked = hop.headers.get("x-linked-etag", "").strip('"')
        if HASH.fullmatch(linked):
            return f'linked "{linked}"', None
    return response.headers.get("etag"), response.headers.get("last-modified")


def if_range_headers(version: Version) -> dict[str, str]:
    """The If-Range header for a version with a strong ETag, the only kind it accepts; other versions are recognised
    by the headers of the response.
    """
    return {"If-Range": version.etag} if version.etag and version.etag.startswith('"') else {}


def if_modified_headers(version: Version | None) -> dict[str, str]:
    """The conditional headers that allow the response 304 (not modified) for a known version."""
    if version is None or not version.is_durable:
        return {}
    if version.etag is not None:
        return {"If-None-Match": version.etag} if version.etag.startswith('"') else {}
    return {"If-Modified-Since": version.modified or ""}


def status(response: httpx.Response) -> str:
    """The status line, such as "404 Not Found"."""
    return f"{response.status_code} {response.reason_phrase}".strip()


def retry_after(response: httpx.Response) -> float | None:
    """The wait in seconds from a Retry-After header, either form (a number or a date); None without the header."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return max(0.0, then - time.time())

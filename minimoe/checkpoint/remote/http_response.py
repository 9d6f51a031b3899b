"""What an answer to a ranged request says, and whether it may be believed.

Many answers look like success: the whole file (200), another range, the same range of a newer file, a compressed body.
Each of them would become wrong weights, so each is told apart here.
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

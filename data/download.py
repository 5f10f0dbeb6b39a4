"""Files from elsewhere, piece by piece: tried again when the network fails, never followed to a forbidden place."""

from __future__ import annotations

import errno
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Protocol, TypeVar

from data.addresses import check_address, check_host, check_next, shown
from data.faults import OneLineError

TRIES = 5
PAUSE = 1.0  # seconds before the second try, doubled each time
_TIMEOUT = 60.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = 5
_NETWORK_PACKAGES = frozenset({"aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "s3fs"})

Found = TypeVar("Found")


class FetchError(OneLineError):
    """A file that could not be had."""


class NotThereError(FetchError):
    """An address at which there is no such file, or none that we may read."""


class Reader(Protocol):
    """What gives bytes until there are none."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""
        ...


@contextmanager
def remote_file(url: str) -> Iterator[tuple[int | None, Reader]]:
    """The size of a file, None where it is not told, and its content to read.

    http and https are read by Python's own library, where each redirect and the peer that answers are checked; s3, gs
    and file by fsspec.

    Raises:
        ValueError: an address that is refused, or nothing there.
    """
    check_address(url)
    with ExitStack() as stack:
        try:
            found = stack.enter_context(_http(url) if url.lower().startswith("http") else _fsspec(url))
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise NotThereError(f"no file '{shown(url)}' that can be read ({type(error).__name__})") from error
        yield found


def with_retries(url: str, work: Callable[[], Found]) -> Found:
    """What ``work`` gives; failures of the network are tried again after a pause that doubles.

    Raises:
        ValueError: in one line, when all tries failed or trying again cannot help.
    """
    failure: Exception | None = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return work()
        except ValueError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = "make room or lower data.cache"
                raise FetchError(f"the disk is full: '{shown(url)}' was not fetched; {remedy}") from error
            theirs = type(error).__module__.partition(".")[0] in _NETWORK_PACKAGES
            if not theirs and not isinstance(error, (OSError, http.client.HTTPException)):
                raise
            failure = error
    reason = (str(failure).strip().splitlines() or [""])[0] or type(failure).__name__
    remedy = "check the address and the network, and start the same command again"
    raise FetchError(f"cannot fetch '{shown(url)}' after {TRIES} tries: {reason}; {remedy}") from failure


def fetch_small(url: str, *, limit: int = 2**26) -> bytes | None:
    """The content of a small file; None where there is none.

    Raises:
        ValueError: the network fails, or it is larger than ``limit`` bytes.
    """

    def work() -> bytes:
        content = b""
        with remote_file(url) as (size, source):
            while len(content) <= limit and (piece := source.read(2**20)):
                content += piece
        if len(content) > limit:
            raise FetchError(f"'{shown(url)}' is larger than {limit} bytes, too large for what it should be")
        if size is not None and len(content) != size:
            raise ConnectionError(f"{len(content)} of {size} bytes came")
        return content

    try:
        return with_retries(url, work)
    except NotThereError:
        return None


@contextmanager
def _http(url: str) -> Iterator[tuple[int | None, Reader]]:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": "robustclip", "Accept-Encoding": "identity"})
    try:
        response = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _PASSING:
            raise ConnectionError(f"HTTP {error.code} {error.reason}") from error
        raise NotThereError(f"no file '{shown(url)}' that can be read (HTTP {error.code} {error.reason})") from error
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from error
    with response:
        length = response.headers.get("Content-Length", "")
        yield (int(length) if length.isdecimal() else None), response


@contextmanager
def _fsspec(url: str) -> Iterator[tuple[int | None, Reader]]:
    import fsspec.core

    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise FetchError(f"'{shown(url)}' needs another package; install robustclip[remote] ({error})") from error
    size = system.info(path).get("size")
    file: IO[bytes] = system.open(path, "rb")  # pyright: ignore[reportAssignmentType]
    with file:
        yield size, file


class _CheckedHTTP(http.client.HTTPConnection):
    def connect(self) -> None:
        """Connect, and leave again where the name has led to a forbidden address."""
        super().connect()
        _check_peer(self)


class _CheckedHTTPS(http.client.HTTPSConnection):
    def connect(self) -> None:
        """Connect, and leave again where the name has led to a forbidden address."""
        super().connect()
        _check_peer(self)


def _check_peer(connection: http.client.HTTPConnection) -> None:
    try:
        check_host(connection.sock.getpeername()[0])
    except ValueError:
        connection.close()
        raise


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        """Open by a connection that checks its peer."""
        return self.do_open(_CheckedHTTP, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        """Open by a connection that checks its peer."""
        return self.do_open(_CheckedHTTPS, req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Follow to http and https only, never from https back to http, nor to a forbidden host."""
        fp.close()
        check_address(newurl)
        check_next(newurl, req.full_url)
        if not newurl.startswith("https:" if req.full_url.startswith("https:") else ("http:", "https:")):
            raise FetchError(f"'{shown(req.full_url)}' leads to '{shown(newurl)}', which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

"""Addresses of files elsewhere: which are read, which are refused, and how they are shown."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit, urlunsplit

SCHEMES = ("http", "https", "s3", "gs", "file")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))


def is_address(place: str) -> bool:
    """Whether this names something by a scheme (``https://``, ``pipe:``) and not by a path."""
    return bool(_SCHEME.match(place)) or "::" in place


def check_address(url: str) -> None:
    """Refuse what no shard is read from: commands, chains, other schemes, and hosts that hand out secrets.

    Raises:
        ValueError: naming the address and what can be read.
    """
    found = _SCHEME.match(url)
    if "::" in url or found is None or found[1].lower() not in SCHEMES or "//" not in url:
        several = "; name several as '{a,b}.tar' or in a list x.txt" if "::" in url else ""
        use = f"use {', '.join(SCHEMES)}://"
        raise ValueError(f"'{shown(url)}' is not a path and no address to read from; {use}{several}")
    parts = urlsplit(url)
    if found[1].lower() in ("http", "https"):
        if not parts.hostname:
            raise ValueError(f"'{shown(url)}' names no host")
        check_host(parts.hostname)
    elif not parts.path.strip("/") or ".." in parts.path.split("/"):
        raise ValueError(f"'{shown(url)}' names no file")


def check_host(host: str) -> None:
    """Refuse the hosts that tell a machine its own secrets: link-local addresses and metadata services.

    Raises:
        ValueError: it is one of them, in whatever way its number is written.
    """
    name = host.strip("[]").rstrip(".").lower()
    number = _number(name)
    secret = name in _METADATA_NAMES or name.startswith("instance-data.")
    if secret or (number is not None and (number.is_link_local or number in _METADATA)):
        raise ValueError(f"host '{host}' is refused: link-local and metadata addresses hold no shards")


def is_inner(host: str) -> bool:
    """Whether a host is written as one of this machine or of a network that others cannot see."""
    name = host.strip("[]").rstrip(".").lower()
    number = _number(name)
    return (
        name == "localhost"
        or name.endswith((".localhost", ".local", ".internal"))
        or bool(number is not None and not number.is_global)
    )


def check_next(url: str, told_by: str) -> None:
    """Refuse what a stranger's machine may not send us to: addresses that only we can see.

    Args:
        url: of the next file.
        told_by: address whose content or answer names it.

    Raises:
        ValueError: it names an inner host and is not of the same one.
    """
    host, before = urlsplit(url).hostname or "", urlsplit(told_by).hostname or ""
    if urlsplit(url).scheme.lower() in ("http", "https") and is_inner(host) and host != before:
        raise ValueError(f"host '{host}' is of an inner network, and '{shown(told_by)}' sends there; name it yourself")


def shown(url: str) -> str:
    """The address without its user, password and query, for messages."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def sibling(url: str, name: str) -> str:
    """The address of ``name`` beside the file at ``url``; its query is kept, for it may be a signature."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0] + "/" + name))


def above(url: str) -> str:
    """The folder of a file's folder, as the address of a file in it without a name."""
    parts = urlsplit(url)
    folder = parts.path.rpartition("/")[0].rpartition("/")[0]
    return urlunsplit(parts._replace(path=folder + "/"))


def file_name(url: str) -> str:
    """The last part of an address or a path."""
    return (urlsplit(url).path if "://" in url else url).rpartition("/")[2]


def _number(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        number = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            number = ipaddress.ip_address(socket.inet_aton(name))  # 2852039166, 0xa9fea9fe, 0251.0376.…
        except OSError:
            return None
    mapped = getattr(number, "ipv4_mapped", None)
    return mapped or number

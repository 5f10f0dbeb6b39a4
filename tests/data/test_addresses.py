from __future__ import annotations

import pytest

from data.addresses import above, check_address, file_name, is_address, shown, sibling


@pytest.mark.parametrize(
    "url",
    [
        "pipe:curl https://example.org/0.tar",
        "pipe://ls",
        "file:/etc/passwd",
        "file:///",
        "file:///data/../etc/passwd",
        "ftp://example.org/0.tar",
        "memory://0.tar",
        "simplecache::s3://bucket/0.tar",
        "/data/a.tar::/data/b.tar",
        "http:///0.tar",
        "s3://bucket/../0.tar",
        "http://169.254.169.254/latest/0.tar",
        "http://2852039166/0.tar",
        "http://0xa9fea9fe/0.tar",
        "http://0251.0376.0251.0376/0.tar",
        "http://169.254.7/0.tar",
        "http://[fe80::1%25eth0]/0.tar",
        "http://[::ffff:169.254.169.254]/0.tar",
        "http://[fd00:ec2::254]/0.tar",
        "https://100.100.100.200/0.tar",
        "http://metadata.google.internal./0.tar",
        "https://user:secret@METADATA/0.tar",
        "http://instance-data.ec2.internal/0.tar",
    ],
)
def test_commands_chains_other_schemes_and_metadata_hosts_are_refused(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_address(url)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7:8080/a/0.tar",
        "https://example.org/0.tar?sig=a..b",
        "s3://b/0.tar",
        "gs://b/x/0.tar",
        "file:///d/0.tar",
    ],
)
def test_plain_addresses_are_taken(url: str) -> None:
    check_address(url)
    assert is_address(url) and file_name(url) == "0.tar"


def test_paths_are_no_addresses() -> None:
    assert not any(map(is_address, ("/data/x-{0..9}.tar", "digits", "a b.tar", r"C:\x.tar", "x/y:z.tar")))


def test_an_address_is_shown_without_its_secrets() -> None:
    url = "https://me:word@example.org:81/a/b/0.tar?signature=xyz"
    assert shown(url) == "https://example.org:81/a/b/0.tar" and shown("/a?b") == "/a?b"
    assert sibling(url, "index.json") == "https://me:word@example.org:81/a/b/index.json?signature=xyz"
    assert sibling(above(url), "names.txt") == "https://me:word@example.org:81/a/names.txt?signature=xyz"

"""What is not an archive of ours is refused before anything of it is used."""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import Path

import pytest

from kevolve.spool import container
from kevolve.spool.container import BadArchive


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for member, content in members:
            written.writestr(member, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadArchive) as caught:
        container.read(path)
    return str(caught.value)


def test_what_was_packed_is_read_and_the_same_members_give_the_same_bytes(tmp_path):
    members = {"b/c.py": b"x = 1\n", "a.json": b"{}"}
    path = tmp_path / "a.zip"
    path.write_bytes(container.packed(members))
    assert container.read(path)[0] == members
    assert container.packed(dict(reversed(members.items()))) == path.read_bytes()


@pytest.mark.parametrize(
    "name", ["../out.py", "a/../../out.py", "/etc/passwd", "a\\b.py", "C:/a.py", ".hidden", "a//b", "a/", "a\nb", "é.py", "x" * 241]
)
def test_a_name_that_is_no_plain_path_below_the_archive_is_refused(tmp_path, name):
    shown = ascii(name if len(name) <= 80 else name[:77] + "...")
    expected = f"a.zip: member {shown}: expected a relative path of plain names (no '..', no '/' in front, no '\\')"
    assert refusal(archive(tmp_path / "a.zip", (name, b""))) == expected
    with pytest.raises(ValueError, match=re.escape(expected.removeprefix("a.zip: "))):
        container.packed({name: b""})


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFIFO])
def test_a_link_a_folder_or_a_device_is_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("a.py")
    entry.external_attr = (kind | 0o777) << 16
    path = archive(tmp_path / "a.zip", (entry, b"/etc/passwd"))
    assert refusal(path) == "a.zip: member 'a.py': expected a plain file, got a link, a folder or a device"


def test_a_member_that_would_be_huge_is_refused_unread(tmp_path):
    path = archive(tmp_path / "a.zip", ("a.py", bytes(container.MOST_BYTES + 1)))
    assert path.stat().st_size < 100_000
    assert refusal(path) == f"a.zip: member 'a.py' holds {container.MOST_BYTES + 1} bytes, at most {container.MOST_BYTES} are read"


def test_members_that_are_huge_together_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "MOST_BYTES", 1 << 10)
    monkeypatch.setattr(container, "MOST_TOTAL_BYTES", 1 << 12)
    count = container.MOST_TOTAL_BYTES // container.MOST_BYTES + 1
    path = archive(tmp_path / "a.zip", *((f"a{number}", bytes(container.MOST_BYTES)) for number in range(count)))
    total = count * container.MOST_BYTES
    assert refusal(path) == f"a.zip: its members hold {total} bytes together, at most {container.MOST_TOTAL_BYTES} are read"


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    """The size in the directory is small, the stream expands to more: no more than was announced is read, and its checksum differs."""
    path = archive(tmp_path / "a.zip", ("a.py", bytes(1 << 20)))
    content = path.read_bytes().replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    assert "expected a zip archive of kevolve's, got something else or a part of one" in refusal(path)


def test_a_name_that_stands_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "a.zip", ("a.py", b"1"), ("a.py", b"2"))
    assert refusal(path) == "a.zip: member 'a.py' stands in it twice"


def test_an_encrypted_member_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", ("a.py", b"1"))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert refusal(path) == "a.zip: member 'a.py' is encrypted"


@pytest.mark.parametrize("content", [b"", b"no zip", container.packed({"a": b"1" * 99})[:-5], container.packed({"a": b"1"})[:20]])
def test_what_is_no_whole_archive_is_refused(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    assert refusal(path).startswith("a.zip: expected a zip archive of kevolve's, got something else or a part of one (")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_archive_is_refused_or_read_as_it_was(tmp_path, seed):
    import random

    draw, members = random.Random(seed), {"a.json": b'{"a": 1}' * 20, "b/c.py": b"x = 1\n" * 30}
    content = bytearray(container.packed(members))
    for _ in range(3):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    try:
        found, _ = container.read(path)
    except BadArchive:
        return
    assert set(found.values()) <= set(members.values())


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "MOST_MEMBERS", 2)
    path = archive(tmp_path / "a.zip", *((f"a{number}", b"") for number in range(3)))
    assert refusal(path) == "a.zip: 3 members, at most 2 are read"


def test_a_huge_file_is_not_even_opened(tmp_path):
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.truncate(container.MOST_TOTAL_BYTES + 1)
    assert refusal(path) == f"a.zip: {container.MOST_TOTAL_BYTES + 1} bytes, at most {container.MOST_TOTAL_BYTES} are read"


def test_no_archive_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        container.read(tmp_path / "a.zip")

"""Whole or not at all, private where they must be (B-32, B-43, B-44)."""

import errno
import os
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from protocol.errors import KeyFileError, StorageError
from protocol.storage import PRIVATE, atomic_writer, exclusive_lock, open_regular, read_file, storage_errors


def test_file_appears_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with atomic_writer(path, mode=PRIVATE) as stream:
        stream.write(b"half")
        assert not path.exists()
        stream.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_appears_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with pytest.raises(RuntimeError), atomic_writer(path) as stream:  # noqa: PT012 - the block is what is tested
        stream.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space") as caught, atomic_writer(tmp_path / "f"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.fix == "free space; nothing was changed"
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="it exists"), atomic_writer(path):
        pytest.fail("the block must not run")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")  # a dangling link exists too
    with pytest.raises(StorageError, match="it exists"), atomic_writer(path):
        pytest.fail("the block must not run")


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with pytest.raises(StorageError, match="it exists"), atomic_writer(path) as stream:  # noqa: PT012 - likewise
        stream.write(b"new")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(self: Path, target: Path) -> NoReturn:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    with atomic_writer(tmp_path / "f") as stream:
        stream.write(b"new")
    assert (tmp_path / "f").read_bytes() == b"new"


def test_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError), atomic_writer(tmp_path / "no" / "f"):
        pytest.fail("the block must not run")


def test_overwrite_replaces(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with atomic_writer(path, overwrite=True) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(StorageError, match="not a regular file"):
            open_regular(path)
    with pytest.raises(StorageError) as caught:
        open_regular(tmp_path / "missing")
    assert caught.value.fix == "check the path"


def test_permission_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StorageError) as caught:
        open_regular(tmp_path / "f")
    assert "permissions" in caught.value.fix


def test_a_path_with_something_else_in_the_way_is_to_be_another(tmp_path: Path) -> None:
    taken = tmp_path / "x.txt"
    taken.write_bytes(b"")
    with pytest.raises(StorageError) as caught, storage_errors(taken):
        taken.mkdir()
    assert caught.value.fix == "choose another path"
    with pytest.raises(StorageError) as caught:
        open_regular(taken / "f")
    assert caught.value.fix == "choose another path"
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path):
        tmp_path.open("wb")
    assert caught.value.fix == "choose another path"


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_file(path, limit=5) == b"12345"
    with pytest.raises(StorageError, match="longer than 4"):
        read_file(path, limit=4)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_private_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    assert read_file(path, limit=10, private=True) == b"secret"
    path.chmod(mode)
    with pytest.raises(KeyFileError) as caught:
        read_file(path, limit=10, private=True)
    assert caught.value.fix == f"chmod 600 {path}"


def test_lock_makes_others_wait(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with exclusive_lock(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=other)
    with exclusive_lock(tmp_path / "lock"):
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with pytest.raises(StorageError), exclusive_lock(tmp_path / "no" / "lock"):
        pytest.fail("the block must not run")


def test_lock_that_is_held_can_be_refused_instead(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive_lock(lock), pytest.raises(BlockingIOError), exclusive_lock(lock, wait=False):
        pytest.fail("the block must not run")
    with exclusive_lock(lock, wait=False):
        pass

"""The audit log: appended, bound line to line, whole after a crash (F-13)."""

import json
import threading
from pathlib import Path

import pytest

from modify_fl.errors import FederationError
from modify_fl.federated.journal import append, read_journal
from protocol.errors import MalformedBundleError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    append(path, "joined", bundle="b" * 64)
    append(path, "round", round=1, norm=2.5, epsilon=None)
    append(path, "refused", word="policy")
    return path


def test_what_was_written_is_read_back_in_order(log: Path) -> None:
    entries = read_journal(log)
    assert [entry.event for entry in entries] == ["joined", "round", "refused"]
    assert entries[1].facts == {"round": 1, "norm": 2.5}
    assert log.stat().st_mode & 0o777 == 0o600
    assert read_journal(log.with_name("none")) == ()


def _changed(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b"2.5", b"0.1"), lines[2]]


@pytest.mark.parametrize(
    "edit", [_changed, lambda lines: lines[1:], lambda lines: [lines[0], lines[2]], lambda lines: lines[::-1]]
)
def test_a_line_that_was_changed_dropped_or_moved_is_noticed(edit: object, log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(edit(lines)))  # type: ignore[operator]
    with pytest.raises(FederationError, match="cannot be relied on"):
        read_journal(log)


def test_a_line_cut_short_by_a_crash_spoils_nothing(log: Path) -> None:
    log.write_bytes(log.read_bytes() + b'{"event":"rou')
    assert len(read_journal(log)) == 3
    append(log, "round", round=2)
    assert [entry.event for entry in read_journal(log)] == ["joined", "round", "refused", "round"]
    log.write_bytes(log.read_bytes().replace(b'{"event":"rou\n', b'{"event":"ruo\n'))
    with pytest.raises(FederationError):
        read_journal(log)


def test_several_writers_take_turns(log: Path) -> None:
    threads = [threading.Thread(target=lambda n=n: [append(log, "round", round=n) for _ in range(8)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_journal(log)) == 3 + 32


def test_a_number_that_is_none_is_refused_before_anything_is_written(log: Path) -> None:
    before = log.read_bytes()
    with pytest.raises(MalformedBundleError):
        append(log, "round", norm=float("nan"))
    assert log.read_bytes() == before
    assert json.loads(before.splitlines()[0])["previous"] == "0" * 64

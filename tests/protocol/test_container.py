"""Canonical archive (B-1 to B-8)."""

import contextlib
import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from bundlekit import pack
from hypothesis import given
from hypothesis import strategies as st

from protocol import container
from protocol.container import (
    MAX_MEMBERS,
    Member,
    canonical_order,
    check_name,
    content_offsets,
    read_directory,
    read_exactly,
    write_container,
)
from protocol.errors import MalformedBundleError

SMALL = {"manifest.json": b"{}", "a/b.txt": b"text", "w.safetensors": b"\x00\x01", "model.sig": b"s"}


def read(data: bytes, limit: int = 1 << 30) -> tuple[Member, ...]:
    return read_directory(io.BytesIO(data), size_limit=limit)


NAMES = st.from_regex(r"(?:[a-z]{1,3}/){0,2}[a-z]{1,3}\.(?:json|txt|md)", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=40), min_size=1, max_size=6))
def test_what_is_written_reads_back(members: dict[str, bytes]) -> None:
    try:
        data = pack(members)
    except MalformedBundleError as error:
        assert error.code == "E_MEMBER_NAME"  # noqa: PT017 - the name of a device
        return
    found = {member.name: data[member.offset : member.offset + member.size] for member in read(data)}
    assert found == members


def test_zip_tools_can_open_it() -> None:
    with zipfile.ZipFile(io.BytesIO(pack(SMALL))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == SMALL
        for info in archive.infolist():  # B-2, as a foreign reader sees it
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644
            assert (info.create_system, info.create_version, info.extract_version) == (3, 20, 20)
            assert (info.flag_bits, info.extra, info.comment) == (0, b"", b"")


def test_crc_is_recorded_but_not_checked_here() -> None:
    # B-12: it becomes part of what is signed.
    member = read(pack(SMALL))[0]
    assert (member.name, member.crc32) == ("manifest.json", zlib.crc32(b"{}"))


def test_every_flipped_bit_of_the_headers_is_refused() -> None:
    # B-7. Contents are the signature's business; a CRC too, it is data here (B-12).
    data = pack(SMALL)
    free = set()
    for member in read(data):
        free.update(range(member.offset, member.offset + member.size))
    accepted = []
    for position in range(len(data) * 8):
        byte, bit = divmod(position, 8)
        if byte not in free:
            broken = bytearray(data)
            broken[byte] ^= 1 << bit
            try:
                read(bytes(broken))
                accepted.append(byte)
            except MalformedBundleError:
                pass
    assert accepted == []


def test_every_truncation_and_extension_is_refused() -> None:
    data = pack(SMALL)
    for size in range(len(data)):
        with pytest.raises(MalformedBundleError):
            read(data[:size])
    for extended in (data + b"\x00", b"\x00" + data, data + data, data[:-22] + b"gap!" + data[-22:]):
        with pytest.raises(MalformedBundleError):
            read(extended)


@given(st.binary(max_size=200))
def test_garbage_never_crashes(data: bytes) -> None:
    with pytest.raises(MalformedBundleError):
        read(data)


@given(st.data())
def test_mutants_never_crash(data: st.DataObject) -> None:
    mutant = bytearray(pack(SMALL))
    for _ in range(data.draw(st.integers(1, 4))):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedBundleError):
        read(bytes(mutant))


@pytest.mark.parametrize(
    "name",
    [
        "../a.json",
        "/a.json",
        "a//b.json",
        "a/./b.json",
        "c:/a.json",
        "c:a.json",
        "a\\b.json",
        "A.json",
        "a b.json",
        ".a.json",
        "-a.json",
        "a.json/",
        "",
        "a/b/c/d.json",
        "x" * 96 + ".json",
        "\u202enosj.a.json",  # right to left
        "\u0430.json",  # Cyrillic a, a look-alike
        "a\x00.json",
        "con.json",
        "a/nul.txt",
        "lpt1/a.json",
        "aux.tar.json",
    ],
)
def test_names_that_could_do_harm(name: str) -> None:
    with pytest.raises(MalformedBundleError) as caught:
        check_name(name)
    assert caught.value.code == "E_MEMBER_NAME"
    assert caught.value.what.isascii()


@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "a.png", "a.py", "a", "a.json.gz", "other.sig", "a/model.sig"])
def test_types_that_are_not_allowed(name: str) -> None:
    with pytest.raises(MalformedBundleError) as caught:
        check_name(name)
    assert caught.value.code == "E_MEMBER_TYPE"


@pytest.mark.parametrize("name", ["a.json", "a/b/c-d_e.0.safetensors", "console.txt", "x" * 95 + ".json", "model.sig"])
def test_names_that_are_allowed(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([], "E_CONTAINER"),
        ([(f"{number:03}.txt", b"") for number in range(MAX_MEMBERS + 1)], "E_CONTAINER"),
        ([("a.txt", b""), ("a.txt", b"")], "E_CONTAINER"),
        ([("b.txt", b""), ("a.txt", b"")], "E_CONTAINER"),
        ([("a.txt", b""), ("manifest.json", b"")], "E_CONTAINER"),
        ([("model.sig", b""), ("z.txt", b"")], "E_CONTAINER"),
        ([("a.txt", b""), ("a.txt/b.txt", b"")], "E_MEMBER_NAME"),
    ],
)
def test_writer_refuses_what_the_reader_would(members: list[tuple[str, bytes]], code: str) -> None:
    stream = io.BytesIO()
    with pytest.raises(MalformedBundleError) as caught:
        write_container(stream, members)
    assert caught.value.code == code
    assert stream.getvalue() == b""


def test_limits_of_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(SMALL)
    assert read(data, limit=len(data))
    with pytest.raises(MalformedBundleError, match="more than the limit"):
        read(data, limit=len(data) - 1)
    monkeypatch.setattr(container, "MAX_SIZE", container._OVERHEAD)
    with pytest.raises(MalformedBundleError, match="4 GiB"):
        pack(SMALL)


def test_contents_may_be_in_their_place_already() -> None:
    ordered = sorted(SMALL.items(), key=lambda item: canonical_order(item[0]))
    offsets = content_offsets([(name, len(data)) for name, data in ordered])
    stream = io.BytesIO()
    stream.seek(offsets["w.safetensors"])
    stream.write(SMALL["w.safetensors"])
    stream.seek(0)
    crcs = {"w.safetensors": zlib.crc32(SMALL["w.safetensors"])}
    write_container(stream, ordered, crcs=crcs, stored={"w.safetensors"})
    assert stream.getvalue() == pack(SMALL)


def end_record(count: int, size: int, offset: int) -> bytes:
    return struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, offset, 0)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (end_record(0, 0, 0), "0 members"),
        (end_record(65, 0, 0), "65 members"),
        (end_record(1, 0, 0), "directory too short"),
        (bytes(60_000) + end_record(1, 60_000, 0), "directory too long"),
    ],
)
def test_end_records_that_lie(data: bytes, detail: str) -> None:
    with pytest.raises(MalformedBundleError, match=detail):
        read(data)


def test_sizes_that_do_not_add_up() -> None:
    data = pack({"a.txt": b"12345678"})
    directory = data.rindex(b"PK\x01\x02")
    for size, detail in ((0xFFFFFFFF, "do not fit"), (7, "do not fill")):
        broken = bytearray(data)
        broken[directory + 24 : directory + 28] = struct.pack("<I", size)
        with pytest.raises(MalformedBundleError, match=detail):
            read(bytes(broken))


def test_hidden_data_between_members_is_refused() -> None:
    # Foreign tools skip a gap before the directory; here every byte is accounted for.
    data = pack({"a.txt": b"12345678"})
    directory = data.rindex(b"PK\x01\x02")
    grown = (
        data[:directory] + b"hidden" + data[directory:-22] + end_record(1, len(data) - directory - 22, directory + 6)
    )
    with pytest.raises(MalformedBundleError):
        read(grown)


def test_reading_past_the_end() -> None:
    assert read_exactly(io.BytesIO(b"abc"), 1, 2) == b"bc"
    with pytest.raises(MalformedBundleError) as caught:
        read_exactly(io.BytesIO(b"abc"), 1, 3)
    assert caught.value.code == "E_TRUNCATED"


def test_public_archives_are_all_refused(shared_vectors: Path) -> None:
    # Section 12: 45 archives, none canonical, those that the package index accepts included.
    folder = shared_vectors / "warehouse-zip"
    archives = sorted((folder / "accept").iterdir()) + sorted((folder / "reject").iterdir())
    assert len(archives) == 45
    for path in archives:
        with path.open("rb") as stream, pytest.raises(MalformedBundleError):
            read_directory(stream, size_limit=1 << 30)

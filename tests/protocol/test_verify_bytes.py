"""Nothing of a bundle can be changed, on disk or while it is read (B-25 steps 2 to 11)."""

from pathlib import Path

import pytest
from bundlekit import ENCODER, GENERATOR, MEMBERS, NOW, STUDIO, open_trusted, refusal, weights, write_style
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import policy
from protocol.errors import ProtocolError
from protocol.trust import TrustStore
from protocol.verify import open_bundle, verify_bundle


@settings(max_examples=300)
@given(st.data())
def test_any_flipped_bit_is_refused(
    style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(style_bytes) * 8 - 1))
    broken = bytearray(style_bytes)
    broken[position // 8] ^= 1 << position % 8
    path = tmp_path_factory.getbasetemp() / "flipped.mdfy"
    path.write_bytes(broken)
    refusal(path)


@settings(max_examples=150)
@given(st.data())
def test_any_truncation_is_refused(
    style_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.mdfy"
    path.write_bytes(style_bytes[: data.draw(st.integers(0, len(style_bytes) - 1))])
    refusal(path)


def test_bits_all_over_the_file(style_bytes: bytes, tmp_path: Path) -> None:
    # "A flipped bit anywhere in the bundle"; the bits of the headers are all tried in test_container.
    path = tmp_path / "x.mdfy"
    trust = TrustStore.of(STUDIO)
    for position in range(0, len(style_bytes), 7):
        broken = bytearray(style_bytes)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        refusal(path, trust=trust)


def test_file_changed_after_it_was_opened(style_path: Path) -> None:
    # What is handed out was hashed; the file is not read again.
    with open_trusted(style_path) as bundle:
        style_path.write_bytes(b"")
        assert bundle.read(ENCODER) == MEMBERS[ENCODER]


@pytest.mark.parametrize("keep", [False, True])
def test_file_cut_while_it_is_hashed(style_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    real = policy.check_acknowledged

    def cut(*arguments: object) -> str:
        with style_path.open("r+b") as stream:
            stream.truncate(0)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "check_acknowledged", cut)
    with pytest.raises(ProtocolError) as caught:
        (open_bundle if keep else verify_bundle)(style_path, trust=TrustStore.of(STUDIO), now=NOW)
    # The stream's own buffer may hold the bytes of a small file from before.
    assert (caught.value.code, caught.value.step) in {("E_TRUNCATED", 11), ("E_DIGEST", 11)}


def test_members_longer_than_the_buffer(tmp_path: Path) -> None:
    members = {ENCODER: weights({"head.weight": [600_000], "trunk.weight": [4]}), GENERATOR: MEMBERS[GENERATOR]}
    path = tmp_path / "style.mdfy"
    write_style(path, members=members)
    with open_trusted(path) as bundle:
        assert bundle.read(ENCODER) == members[ENCODER]
    broken = bytearray(path.read_bytes())
    broken[broken.index(members[ENCODER]) + len(members[ENCODER]) - 1] ^= 1
    path.write_bytes(broken)
    error = refusal(path)
    assert (error.code, error.step, error.member) == ("E_DIGEST", 11, ENCODER)

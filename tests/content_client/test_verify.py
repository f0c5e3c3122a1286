"""``content-client verify``: the strict walk, the audit, and terms (B-25, B-26)."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from programs import client

from protocol import rules
from protocol.encryption import generate_identity
from protocol.identity import save_identity
from protocol.manifest import Usage
from protocol.trust import TrustStore, config_folder

Publish = Callable[..., str]


def accepted(digest: str) -> bool:
    return TrustStore.default().is_acknowledged(digest)


def test_every_step_is_listed(desk: Path) -> None:
    done = client("verify", "style.mdfy", cwd=desk)
    assert done.code == 0
    lines = [line for line in done.out.splitlines() if line.startswith("step ")]
    assert [int(line[5:7]) for line in lines] == sorted(int(line[5:7]) for line in lines)
    assert {int(line[5:7]) for line in lines} == set(range(1, 13))


def test_verifying_changes_nothing(desk: Path) -> None:
    # What was seen last is advanced by use, not by looking.
    folder = config_folder()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert client("verify", "style.mdfy", cwd=desk).code == 0
    assert client("verify", "style.mdfy", "--audit", cwd=desk).code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_unknown_signer_gets_the_line_to_paste(studio: Path, tmp_path: Path) -> None:
    refused = client("verify", studio / "style.mdfy", "--json", cwd=tmp_path)
    assert refused.code == 5
    error = refused.json["error"]
    assert (error["code"], error["step"]) == ("E_UNTRUSTED", 6)
    assert error["fix"] == ["content-client", "trust", "add", "FILE.mdfykey", "--fingerprint", error["got"]]


def test_error_carries_what_machines_need(desk: Path) -> None:
    # B-26
    data = (desk / "style.mdfy").read_bytes()
    (desk / "style.mdfy").write_bytes(data.replace(b'"allowed"', b'"allowee"', 1))
    error = client("verify", "style.mdfy", "--json", cwd=desk).json["error"]
    assert (error["code"], error["step"], error["member"]) == ("E_DIGEST", 9, "manifest.json")
    assert len(error["expected"]) == len(error["got"]) == 64


def test_audit_lists_everything_and_exits_as_the_first_failure(desk: Path, publish: Publish) -> None:
    publish(desk / "bad.mdfy", Usage(audience=("age1x",), requires_acknowledgement=True))
    shown = client("verify", "bad.mdfy", "--audit", cwd=desk)
    assert shown.code == 6
    assert "failed   step 10  addressed to" in shown.out
    assert "failed   step 10  terms" in shown.out
    assert "passed   step 12" in shown.out
    assert "not addressed to you, and 1 more" in shown.err
    told = client("verify", "bad.mdfy", "--audit", "--json", cwd=desk).json
    assert told["error"]["code"] == "E_AUDIENCE"
    assert [row["code"] for row in told["result"]["findings"] if row["code"]] == ["E_AUDIENCE", "E_USAGE"]


def test_audit_says_what_could_not_run(studio: Path, tmp_path: Path) -> None:
    shown = client("verify", studio / "style.mdfy", "--audit", cwd=tmp_path)
    assert shown.code == 5
    assert "signer not pinned\n" in shown.err
    assert "not run  step  7  signature" in shown.out


# Terms ----------------------------------------------------------------------------------------

TERMS = Usage(allowed=("art",), prohibited=("impersonation",), requires_acknowledgement=True)


def test_terms_are_accepted_once_per_bundle(desk: Path, publish: Publish) -> None:
    digest = publish(desk / "terms.mdfy", TERMS)
    refused = client("verify", "terms.mdfy", cwd=desk)
    assert refused.code == 6
    assert "content-client verify terms.mdfy --accept-terms" in refused.err
    taken = client("verify", "terms.mdfy", "--accept-terms", cwd=desk)  # no terminal: typing it is the agreement
    assert taken.code == 0
    assert "allowed: art" in taken.err
    assert "prohibited: impersonation" in taken.err
    assert accepted(digest)
    again = client("verify", "terms.mdfy", "--accept-terms", cwd=desk)
    assert (again.code, "allowed" in again.err) == (0, False)


def test_quiet_does_not_hide_the_terms_that_are_agreed_to(desk: Path, publish: Publish) -> None:
    digest = publish(desk / "terms.mdfy", TERMS)
    taken = client("verify", "terms.mdfy", "--accept-terms", "--quiet", cwd=desk)
    assert (taken.code, taken.out, accepted(digest)) == (0, "", True)
    assert "allowed: art" in taken.err
    assert "prohibited: impersonation" in taken.err


def test_terms_are_not_accepted_for_a_bundle_that_is_wrong(desk: Path, publish: Publish) -> None:
    digest = publish(desk / "terms.mdfy", Usage(audience=("age1x",), requires_acknowledgement=True))
    refused = client("verify", "terms.mdfy", "--accept-terms", cwd=desk)
    assert (refused.code, "not addressed to you" in refused.err) == (6, True)
    assert not accepted(digest)


def test_terms_are_shown_from_the_reading_that_was_verified(
    desk: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file with other terms and the genuine signature stands under the name when it is opened first.
    digest = publish(desk / "terms.mdfy", TERMS)
    forged, real, opened = desk / "forged.mdfy", rules.open_regular, list[Path]()
    forged.write_bytes((desk / "terms.mdfy").read_bytes().replace(b"impersonation", b"nothing at al"))

    def serve(path: Path) -> BinaryIO:
        opened.append(path)
        return real(forged if len(opened) == 1 else path)

    monkeypatch.setattr(rules, "open_regular", serve)
    refused = client("verify", "terms.mdfy", "--accept-terms", "--json", cwd=desk)
    assert refused.json["error"]["code"] == "E_DIGEST"
    assert "prohibited" not in refused.err
    assert not accepted(digest)


def test_bundle_without_terms(desk: Path) -> None:
    done = client("verify", "style.mdfy", "--accept-terms", cwd=desk)
    assert done.code == 0
    assert "asks for no agreement" in done.err


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 6)])
def test_a_terminal_is_asked(
    desk: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer + "\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    digest = publish(desk / "terms.mdfy", TERMS)
    done = client("verify", "terms.mdfy", "--accept-terms", cwd=desk)
    assert (done.code, accepted(digest)) == (code, code == 0)
    assert "do you agree to these terms?" in done.err


def test_audit_accepts_nothing(desk: Path) -> None:
    assert client("verify", "style.mdfy", "--audit", "--accept-terms", cwd=desk).code == 2


# Encrypted ------------------------------------------------------------------------------------


def test_style_that_was_sent_to_you(desk: Path, publish: Publish) -> None:
    secret, recipient = generate_identity()
    key = save_identity(desk / "me.agekey", secret, None)
    publish(desk / "private.mdfy", Usage(audience=(recipient,)), recipients=(recipient,))
    done = client("verify", "private.mdfy", "--identity", key, cwd=desk)
    assert done.code == 0, done.err
    assert "with your own key" in done.out
    shown = client("inspect", "private.mdfy", "--identity", key, cwd=desk)
    assert shown.code == 0
    assert "1 recipient named by the provider" in shown.out
    assert "unverified" not in shown.out
    words = ("--photos", "photos", "--show-config")
    assert client("adapt", "--no-align", "--bundle", "private.mdfy", *words, "--identity", key, cwd=desk).code == 0
    made = client(
        "stylize", "--no-align", "photos", "--bundle", "private.mdfy", "--out", "out", "--identity", key, cwd=desk
    )
    assert made.code == 0, made.err


def test_style_that_was_sent_to_somebody_else(desk: Path, publish: Publish) -> None:
    publish(desk / "private.mdfy", Usage(), recipients=(generate_identity()[1],))
    for words in (("verify",), ("inspect",), ("adapt", "--no-align", "--photos", "photos", "--bundle")):
        refused = client(*words, "private.mdfy", "--json", cwd=desk)
        assert refused.code == 8
        assert refused.json["error"]["code"] == "E_NOT_RECIPIENT"
        assert "content-client trust identity" in refused.json["error"]["hint"]


def test_verify_needs_no_torch(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # U-31
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]
    assert client("verify", "style.mdfy", cwd=desk).code == 0
    assert client("inspect", "style.mdfy", cwd=desk).code == 0

"""One table of codes; classes own exit codes (B-45, U-43, U-44)."""

from pathlib import Path

import pytest

from protocol import errors
from protocol.errors import CODES, Error, ProtocolError, problem

# U-43: 3 malformed, 4 signature or contents, 5 not trusted, 6 policy, 7 tensors,
# 8 key file or decryption, 9 cannot read or write, 12 environment.
EXIT_CODES = {
    "MalformedBundleError": 3,
    "UnsupportedVersionError": 3,
    "VerificationError": 4,
    "DigestMismatchError": 4,
    "UntrustedKeyError": 5,
    "PolicyError": 6,
    "RollbackError": 6,
    "TensorError": 7,
    "KeyFileError": 8,
    "StorageError": 9,
    "EnvironmentMissingError": 12,
}
# The codes of B-45, in its order.
B_45 = [
    "E_FORMAT",
    "E_TRUNCATED",
    "E_CONTAINER",
    "E_MEMBER_NAME",
    "E_MEMBER_TYPE",
    "E_JSON",
    "E_MANIFEST",
    "E_VERSION",
    "E_UNSIGNED",
    "E_SIG_FORMAT",
    "E_SIG_BAD",
    "E_STATEMENT",
    "E_UNSIGNED_MEMBER",
    "E_MISSING_MEMBER",
    "E_DIGEST",
    "E_UNTRUSTED",
    "E_PROVIDER_MISMATCH",
    "E_KEY_TYPE",
    "E_KEY_ROLE",
    "E_KEY_EXPIRED",
    "E_KEY_RETIRED",
    "E_KEY_REVOKED",
    "E_KEY_CHAIN",
    "E_KEY_FORK",
    "E_EXPIRED",
    "E_NOT_YET_VALID",
    "E_ROLLBACK",
    "E_EQUIVOCATION",
    "E_BUNDLE_REVOKED",
    "E_REVOCATION_ROLLBACK",
    "E_AUDIENCE",
    "E_USAGE",
    "E_BASE",
    "E_LOCAL_ONLY",
    "E_LINT",
    "E_TENSOR_HEADER",
    "E_TENSOR_SHAPE",
    "E_TENSOR_VALUE",
    "E_SELFTEST",
    "E_NOT_RECIPIENT",
    "E_DECRYPT",
    "E_NO_AGE",
    "E_KEYFILE",
    "E_IO",
]


def test_table_holds_exactly_the_codes_of_the_rule() -> None:
    assert list(CODES) == B_45


@pytest.mark.parametrize("name", EXIT_CODES)
def test_class_owns_its_exit_code(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, ProtocolError)
    assert kind("x").exit_code == EXIT_CODES[name]
    assert kind.code in CODES  # the default code of a class is one of its own


@pytest.mark.parametrize("code", B_45)
def test_row_fills_its_sentence_and_hint(code: str) -> None:
    error = problem(code, detail="d", member="m", expected="e", got="g")
    assert type(error) is CODES[code].kind
    assert error.code == code
    for text in (error.what, error.fix):
        assert text
        assert not text.endswith(".")
        assert text[0] == text[0].lower()
        assert "{" not in text


def test_fix_of_the_raiser_wins_over_the_hint() -> None:
    assert problem("E_IO", fix="run df").fix == "run df"
    assert Error("x").fix == Error.hint
    assert Error("x", code="E_IO").fix == CODES["E_IO"].hint


def test_error_keeps_its_parts() -> None:
    error = Error("what", why="why", fix="fix", code="E_X", step=7, member="m", expected="e", got="g")
    parts = (error.what, error.why, error.fix, error.code, error.step, error.member, error.expected, error.got)
    assert parts == ("what", "why", "fix", "E_X", 7, "m", "e", "g")
    assert str(error) == "what"
    assert error.exit_code == 1


def test_specification_has_the_same_table() -> None:
    # Rows of B-45 name one or several codes, and end with the exit code of their classes.
    text = (Path(errors.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| E_")]
    stated = {code: int(row[-1]) for row in rows for code in row[0].split(" / ")}
    assert stated == {code: row.kind.exit_code for code, row in CODES.items()}

"""Random damage to a bundle: bytes, members, JSON values; every mutant follows from its number."""

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from bundlekit import pack, resign, unpack
from numpy.random import Generator

from protocol.errors import ProtocolError

_JSON = ("manifest.json", "model.sig")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1 << 53, 0.5, "", "x", "\u202e", "0" * 64, [], {}, [[]], {"a": {}}, "A" * 5000,
)  # fmt: skip


def _span(rng: Generator, data: bytes, longest: int = 200) -> tuple[int, int]:
    begin = int(rng.integers(0, len(data)))
    return begin, min(len(data), begin + 1 + int(rng.integers(0, longest)))


def _flip(rng: Generator, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        broken[int(rng.integers(0, len(broken)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(broken)


def _overwrite(rng: Generator, data: bytes) -> bytes:
    begin, end = _span(rng, data)
    place = int(rng.integers(0, len(data)))
    return (data[:place] + data[begin:end] + data[place + end - begin :])[: len(data)]


def _insert(rng: Generator, data: bytes) -> bytes:
    place = int(rng.integers(0, len(data) + 1))
    return data[:place] + rng.bytes(int(rng.integers(1, 40))) + data[place:]


def _delete(rng: Generator, data: bytes) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + data[end:]


def _duplicate(rng: Generator, data: bytes) -> bytes:
    begin, end = _span(rng, data)
    return data[:end] + data[begin:]


def _randomise(rng: Generator, data: bytes) -> bytes:
    begin, end = _span(rng, data, 16)
    return data[:begin] + rng.bytes(end - begin) + data[end:]


def _truncate(rng: Generator, data: bytes) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


BYTES: tuple[Callable[[Generator, bytes], bytes], ...] = (
    _flip, _overwrite, _insert, _delete, _duplicate, _randomise, _truncate,
)  # fmt: skip


def _swap_members(rng: Generator, members: dict[str, bytes]) -> None:
    one, two = rng.choice(sorted(members), 2, replace=False)
    members[one], members[two] = members[two], members[one]


def _drop_member(rng: Generator, members: dict[str, bytes]) -> None:
    del members[str(rng.choice(sorted(members)))]


def _copy_member(rng: Generator, members: dict[str, bytes]) -> None:
    name = str(rng.choice(sorted(members.keys() - {"model.sig"})))
    members[f"copy-{int(rng.integers(0, 9))}.{name.rpartition('.')[2]}"] = members[name]


def _damage_member(rng: Generator, members: dict[str, bytes]) -> None:
    name = str(rng.choice(sorted(members)))
    members[name] = BYTES[int(rng.integers(0, len(BYTES)))](rng, members[name])


def _edit_json(rng: Generator, members: dict[str, bytes]) -> None:
    name = str(rng.choice(_JSON))
    value = json.loads(members[name])
    if name == "model.sig" and rng.random() < 0.5:
        _edit_payload(rng, value)
    else:
        _edit_value(rng, value)
    members[name] = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _edit_payload(rng: Generator, record: Any) -> None:
    """Change what was signed, and leave the signature."""
    payload = json.loads(base64.b64decode(record["dsseEnvelope"]["payload"]))
    _edit_value(rng, payload)
    raw = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
    record["dsseEnvelope"]["payload"] = base64.b64encode(raw).decode()


def _edit_value(rng: Generator, value: Any) -> None:
    """Walk down to some place of a document and change, drop, double or add something there."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        below = [key for key in keys if isinstance(value[key], dict | list) and value[key]]
        if not below or rng.random() < 0.3:
            break
        value = value[below[int(rng.integers(0, len(below)))]]
    key = list(keys)[int(rng.integers(0, len(keys)))]
    new = _VALUES[int(rng.integers(0, len(_VALUES)))]
    action = int(rng.integers(0, 3))
    if action == 0:
        value[key] = new
    elif action == 1:
        del value[key]
    elif isinstance(value, dict):
        value["added"] = new
    else:
        value.append(value[key])


MEMBERS: tuple[Callable[[Generator, dict[str, bytes]], None], ...] = (
    _swap_members, _drop_member, _copy_member, _damage_member, _edit_json, _edit_json,
)  # fmt: skip


def mutant(number: int, good: bytes) -> bytes:
    """Return mutant ``number`` of a bundle: what an attacker without the key can make of it."""
    rng = np.random.default_rng(number)
    if number % 2:
        for _ in range(int(rng.integers(1, 3))):
            good = BYTES[int(rng.integers(0, len(BYTES)))](rng, good) or good
        return good
    members = unpack(good)
    MEMBERS[int(rng.integers(0, len(MEMBERS)))](rng, members)
    return pack(members)


def signed_mutant(number: int, good: bytes) -> bytes:
    """Return a mutant with a genuine signature: what a careless or hostile provider can make of it."""
    rng = np.random.default_rng((number, 1))
    members = unpack(good)
    change = MEMBERS[int(rng.integers(0, len(MEMBERS)))]
    change(rng, members)
    members.pop("model.sig", None)
    try:
        return resign(members)
    except ProtocolError:  # no statement can say this
        return good

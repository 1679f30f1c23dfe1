"""The genesis document: what it must be, what each mistake says, and the hash that names the chain."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from ledger.genesis import (
    GENESIS_BYTES_MAX,
    Genesis,
    GenesisError,
    GenesisMember,
    GenesisModel,
    load_genesis,
    parse_genesis,
)
from ledger.keys import digest
from ledger.types import BlobRef
from tests.ledger.helpers_ledger import make_document

Change = Callable[[dict[str, Any]], object]


def document(n: int = 4, **params: Any) -> dict[str, Any]:
    """A good document as plain JSON values."""
    plain: dict[str, Any] = json.loads(make_document(n, **params).to_json())
    return plain


def refusal(change: Change, n: int = 4) -> str:
    """What the parser says of a good document after `change`."""
    plain = document(n)
    change(plain)
    with pytest.raises(GenesisError) as caught:
        parse_genesis(json.dumps(plain), "genesis.json")
    message = str(caught.value)
    assert message.startswith("genesis.json: ")
    assert len(message) < 2_000
    return message


def set_in(*path: str | int, to: object) -> Change:
    """A change of one value deep in a document."""

    def change(plain: Any) -> None:
        for name in path[:-1]:
            plain = plain[name]
        plain[path[-1]] = to

    return change


# ---------------------------------------------------------------------------------------------------- chain id


def test_a_document_survives_the_way_through_its_file(tmp_path: Path) -> None:
    genesis = make_document()
    file = tmp_path / "genesis.json"
    file.write_text(genesis.to_json())
    assert load_genesis(file) == genesis
    assert load_genesis(file).chain_id == genesis.chain_id


def test_white_space_and_the_order_of_names_do_not_change_the_chain_id() -> None:
    genesis = make_document()
    turned = json.dumps({name: document()[name] for name in reversed(document())}, indent=7)
    assert parse_genesis(turned).chain_id == genesis.chain_id
    assert parse_genesis(turned.encode()).chain_id == genesis.chain_id


def test_written_defaults_do_not_change_the_chain_id() -> None:
    plain = document()
    del plain["params"]["grace_ms"], plain["members"][0]["stake"], plain["format"]
    assert parse_genesis(json.dumps(plain)).chain_id == make_document().chain_id


def test_hexadecimal_digits_may_be_of_either_case() -> None:
    plain = document()
    plain["members"][0]["member_key"] = plain["members"][0]["member_key"].upper()
    assert parse_genesis(json.dumps(plain)).chain_id == make_document().chain_id


def test_the_chain_id_is_the_hash_of_pairs_in_order_of_name() -> None:
    genesis = make_document()
    assert genesis.chain_id == digest("genesis", genesis.canonical_bytes())
    pairs = msgpack.unpackb(genesis.canonical_bytes())
    assert [name for name, _ in pairs] == ["chain", "format", "members", "model", "params", "time_ms"]
    params = dict(dict(pairs)["params"])
    assert params["round_length"] == 4
    assert params["verdict"] == 0  # a truth value is written as an integer
    member = dict(dict(pairs)["members"][0])
    assert member["member_key"] == genesis.members[0].member_key.hex()
    assert base64.b64decode(member["certificate"]) == genesis.members[0].certificate


@pytest.mark.parametrize(
    "change",
    [
        set_in("chain", to="another"),
        set_in("time_ms", to=1),
        set_in("params", "score_tolerance", to=1),
        set_in("params", "grace_ms", to=2_000),
        set_in("model", "size", to=99),
        set_in("members", 1, "stake", to=5),
        set_in("members", 1, "endpoint", to="10.0.0.1:1"),
        set_in("members", 1, "organisation", to=""),
        lambda plain: plain["members"].pop(),
        lambda plain: plain["members"].reverse(),
    ],
)
def test_any_other_rule_member_or_model_is_another_chain(change: Change) -> None:
    plain = document()
    change(plain)
    assert parse_genesis(json.dumps(plain)).chain_id != make_document().chain_id


def test_the_document_names_the_initial_model() -> None:
    genesis = make_document()
    assert genesis.initial_model == BlobRef(genesis.model.blob, genesis.model.size)


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("what", ["name", "member_key", "certificate", "endpoint", "beacon_tip"])
def test_two_members_with_one_key_name_or_address_are_refused(what: str) -> None:
    first = document()["members"][0]
    message = refusal(set_in("members", 2, what, to=first[what]))
    assert f"have the same {what}: give each its own" in message
    assert "'peer-0'" in message


@pytest.mark.parametrize(("n", "c"), [(4, 4), (4, 5), (1, 1), (0, 1)])
def test_a_committee_too_large_for_the_members_is_refused(n: int, c: int) -> None:
    def change(plain: dict[str, Any]) -> None:
        plain["params"]["committee_size"] = c
        plain["members"] = plain["members"][:n]

    message = refusal(change)
    assert f"committee_size c = {c} is too large for N = {n} members" in message
    assert "recommended N >= 3c" in message


def test_a_round_shorter_than_two_blocks_is_refused() -> None:
    # H1: k >= 2
    message = refusal(set_in("params", "round_length", to=1))
    assert "params.round_length: Input should be greater than or equal to 2" in message


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (set_in("colour", to="red"), "colour"),
        (set_in("params", "comittee_size", to=4), "params.comittee_size"),
        (set_in("members", 1, "color", to="red"), "members.1.color"),
        (set_in("model", "x", to=1), "model.x"),
    ],
)
def test_an_unknown_field_is_named(change: Change, where: str) -> None:
    assert f"{where}: unknown field: remove it, or correct its spelling" in refusal(change)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (set_in("params", "committee_size", to="4"), "params.committee_size"),
        (set_in("params", "committee_size", to=1.0), "params.committee_size"),
        (set_in("params", "verdict", to="no"), "params.verdict"),
        (set_in("params", to=[]), "params"),
        (set_in("members", to={}), "members"),
        (set_in("members", 0, to="peer"), "members.0"),
        (set_in("members", 0, "stake", to=None), "members.0.stake"),
        (set_in("time_ms", to="now"), "time_ms"),
        (set_in("chain", to=5), "chain"),
        (set_in("format", to="fedchain-genesis-2"), "format"),
    ],
)
def test_a_wrong_type_or_format_is_named(change: Change, where: str) -> None:
    assert f"{where}: " in refusal(change)


@pytest.mark.parametrize(
    "value", ["", "zz" * 32, "ab" * 31, "ab" * 33, "ab " * 32, " " * 64, "ä" * 64, 5, None, ["ab"], "0x" + "ab" * 31]
)
def test_a_key_that_is_not_64_hexadecimal_digits_is_refused(value: object) -> None:
    for what in ("member_key", "beacon_tip"):
        message = refusal(set_in("members", 3, what, to=value))
        assert f"members.3.{what}: a key or hash must be 64 hexadecimal digits" in message
    assert "model.blob: blob must be 64 hexadecimal digits" in refusal(set_in("model", "blob", to=value))


@pytest.mark.parametrize("value", ["ab", "zz" * 32, 7, None])
def test_a_test_set_digest_is_a_hash_or_nothing(value: object) -> None:
    assert "model.test_set_digest: " in refusal(set_in("model", "test_set_digest", to=value))


@pytest.mark.parametrize(
    "value", ["", "not base64!", "YWJj", "YWJj\n" * 40, base64.b64encode(bytes(4097)).decode(), 5, None, "ä" * 200]
)
def test_a_certificate_that_is_not_base64_of_a_sane_size_is_refused(value: object) -> None:
    message = refusal(set_in("members", 1, "certificate", to=value))
    assert "members.1.certificate: certificate must be the base64 of a DER certificate" in message


@pytest.mark.parametrize(
    "value", ["", "host", "host:", ":26000", "host:0", "host:65536", "host:999999", "a b:1", "host:1\n", "http://x:1"]
)
def test_an_endpoint_is_a_host_and_a_port(value: str) -> None:
    assert "members.1.endpoint: " in refusal(set_in("members", 1, "endpoint", to=value))


@pytest.mark.parametrize("value", ["", " x", "-x", "x" * 65, "a\nb", "ä", "../x", "x\n"])
def test_a_name_is_short_and_plain(value: str) -> None:
    assert "chain: " in refusal(set_in("chain", to=value))
    assert "members.0.name: " in refusal(set_in("members", 0, "name", to=value))


def test_more_members_than_may_vote_are_refused() -> None:
    # A1: at most 31 voters
    def change(plain: dict[str, Any]) -> None:
        plain["members"] = [*document(31)["members"], document()["members"][0]]

    assert "members: Tuple should have at most 31 items" in refusal(change)


def test_a_shared_test_set_needs_a_digest_and_a_local_one_has_none() -> None:
    # R3
    message = "test_set 'shared' needs model.test_set_digest, and 'local' must leave it empty"
    assert message in refusal(set_in("model", "test_set_digest", to=""))
    assert message in refusal(set_in("params", "test_set", to="local"))
    assert make_document(test_set="local").model.test_set_digest == b""


def test_rules_that_do_not_fit_together_are_named() -> None:
    assert "params: batch_max 2 must be at least" in refusal(set_in("params", "batch_max", to=2))


def test_many_mistakes_are_named_together_but_not_without_end() -> None:
    def change(plain: dict[str, Any]) -> None:
        for at in range(50):
            plain[f"field{at}"] = at
        plain["time_ms"] = -1

    assert refusal(change).count("unknown field") <= 10


# ------------------------------------------------------------------------------------------- files and garbage


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", '"x"', "{}", "{'a': 1}", b"\xff\xfe", "\x00", "NaN"])
def test_text_that_is_no_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(GenesisError, match="genesis: "):
        parse_genesis(text)


def test_text_that_is_not_json_is_called_that() -> None:
    with pytest.raises(GenesisError, match="not JSON"):
        parse_genesis("{,}")


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"params":', '{"members":['])
def test_deep_nesting_is_refused(opening: str) -> None:
    with pytest.raises(GenesisError):
        parse_genesis(opening * 100_000)


def test_a_lone_surrogate_is_refused() -> None:
    plain = json.dumps(document()).replace("Organisation 1", "\\ud800")
    with pytest.raises(GenesisError):
        parse_genesis(plain)


def test_a_huge_document_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "genesis.json"
    file.write_bytes(b" " * (GENESIS_BYTES_MAX + 1))
    with pytest.raises(GenesisError, match="larger than 4194304 bytes; is this a genesis document"):
        load_genesis(file)


@pytest.mark.parametrize("name", ["nothing.json", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(GenesisError, match="cannot be read") as caught:
        load_genesis(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


# -------------------------------------------------------------------------------------------------- warnings


def test_a_model_that_no_update_can_carry_is_warned_of() -> None:
    # R2: every honest trainer would train in vain
    document = make_document(12, committee_size=4, initial_model=bytes(2000), update_bytes_max=1000)
    assert any("update_bytes_max is 1000" in warning for warning in document.warnings())


def test_a_wise_consortium_gets_no_warning() -> None:
    assert make_document(n=12, committee_size=4).warnings() == []


@pytest.mark.parametrize(
    ("n", "c", "message"),
    [
        (11, 4, "N - c = 7 is below 2c = 8: the next committee can be guessed (R9)"),
        (9, 3, "c = 3 is not of the form 3f + 1: c = 1 tolerates as many faults"),
        (18, 6, "c = 6 is not of the form 3f + 1: c = 4 tolerates as many faults"),
        (3, 1, "3 voters tolerate no fault at all: 4 tolerate one (A1)"),
    ],
)
def test_an_unwise_consortium_is_warned(n: int, c: int, message: str) -> None:
    assert message in make_document(n=n, committee_size=c).warnings()


def test_documents_made_in_code_are_checked_too() -> None:
    good = make_document().members[0]
    with pytest.raises(ValueError, match="64 hexadecimal"):
        GenesisMember(**{**good.model_dump(), "member_key": b"short"})
    with pytest.raises(ValueError, match="64 hexadecimal"):
        GenesisModel(blob=b"", size=1, task="digits")
    with pytest.raises(ValueError, match="frozen"):
        make_document().chain = "other"
    assert Genesis.model_validate(make_document().model_dump(mode="python") | {"members": make_document().members})

"""`model list`, `model export` and `model verify`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cli.output import program
from fl.tensors import decode_tensors
from ledger.blobs import BlobStore, file_ref
from ledger.genesis import load_genesis
from ledger.types import UpdateBody
from node.errors import ExitCode
from node.home import Home
from node.provenance import Bundle, KeyList, Link, ProvenanceError, Segment, verify_bundle
from tests.cli.helpers_cli import Command


@pytest.fixture
def bundle(command: Command, chain_home: Home, tmp_path: Path) -> Path:
    """The provenance bundle of the newest model, model.safetensors beside it."""
    path = tmp_path / "model.bundle"
    files = ("--out", tmp_path / "model.safetensors", "--bundle", path)
    assert command("model", "export", "--home", chain_home.path, *files).code == 0
    return path


def test_list_has_one_model_a_round_and_the_initial_one(command: Command, chain_home: Home) -> None:
    models = command("model", "list", "--home", chain_home.path, "--json").json
    assert [(m["height"], m["round"], m["updates"], m["here"]) for m in models] == [
        (0, None, 0, True), (3, 0, 1, True), (6, 1, 1, True), (9, 2, 1, True),
    ]  # fmt: skip
    BlobStore(chain_home.blobs).path(bytes.fromhex(models[3]["model"])).unlink()
    assert "no" in command("model", "list", "--home", chain_home.path).out


def test_export_writes_the_bytes_that_the_block_names(command: Command, chain_home: Home, tmp_path: Path) -> None:
    for model in command("model", "list", "--home", chain_home.path, "--json").json:
        out = tmp_path / "out.safetensors"
        ran = command("model", "export", "--home", chain_home.path, "--height", model["height"], "--out", out)
        assert ran.code == 0
        assert file_ref(out).blob.hex() == model["model"]  # B1


def test_export_as_a_torch_state_dict_opens_without_unpickling(
    command: Command, chain_home: Home, tmp_path: Path
) -> None:
    command("model", "export", "--home", chain_home.path, "--out", tmp_path / "m.safetensors")
    ran = command("model", "export", "--home", chain_home.path, "--out", tmp_path / "m.pt", "--format", "torch")
    assert ran.code == 0, ran.err
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    expected = decode_tensors((tmp_path / "m.safetensors").read_bytes())
    assert {name: value.tolist() for name, value in state.items()} == {n: a.tolist() for n, a in expected.items()}


@pytest.mark.parametrize(("height", "words"), [(4, "multiples of 3"), (12, "ends at #9")])
def test_export_of_no_model_block_is_a_usage_error(
    command: Command, chain_home: Home, tmp_path: Path, height: int, words: str
) -> None:
    ran = command("model", "export", "--home", chain_home.path, "--height", height, "--out", tmp_path / "m")
    assert ran.code == ExitCode.USAGE
    assert words in ran.err


def test_export_of_a_changed_blob_is_refused(command: Command, chain_home: Home, tmp_path: Path) -> None:
    model = command("model", "list", "--home", chain_home.path, "--json").json[-1]["model"]
    path = BlobStore(chain_home.blobs).path(bytes.fromhex(model))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    ran = command("model", "export", "--home", chain_home.path, "--out", tmp_path / "m")
    assert ran.code == ExitCode.DATA_DAMAGED
    assert not (tmp_path / "m").exists()


def test_a_bundle_proves_model_round_contributors_and_shares(command: Command, bundle: Path, tmp_path: Path) -> None:
    files = ("--model", tmp_path / "model.safetensors", "--genesis", tmp_path / "genesis.json")
    found = command("model", "verify", bundle, *files, "--json").json
    assert (found["height"], found["round"], found["chain"]) == (9, 2, "tests")
    assert found["model"] == file_ref(tmp_path / "model.safetensors").blob.hex()
    assert [item["share"] for item in found["contributions"]] == [1.0]
    assert len(found["committee"]) == 2
    ran = command("model", "verify", bundle, *files)
    assert ran.code == 0
    assert "warning" not in ran.err


def test_a_bundle_of_the_initial_model_is_its_genesis(command: Command, chain_home: Home, tmp_path: Path) -> None:
    path = tmp_path / "zero.bundle"
    command("model", "export", "--home", chain_home.path, "--height", 0, "--out", tmp_path / "m", "--bundle", path)
    found = command("model", "verify", path, "--model", tmp_path / "m", "--json").json
    assert (found["height"], found["round"], found["contributions"]) == (0, None, [])
    bundle = Bundle.decode(path.read_bytes())
    with pytest.raises(ProvenanceError, match="has no committee"):
        verify_bundle(replace(bundle, committee=KeyList((bytes(32),))).encode())


def test_without_a_trusted_chain_id_verify_warns(command: Command, bundle: Path) -> None:
    ran = command("model", "verify", bundle)
    assert ran.code == 0
    assert "--chain-id" in ran.err


def test_verify_compares_the_chain_id_that_is_trusted(command: Command, bundle: Path, tmp_path: Path) -> None:
    mine = load_genesis(tmp_path / "genesis.json").chain_id.hex()
    assert command("model", "verify", bundle, "--chain-id", mine).code == 0
    ran = command("model", "verify", bundle, "--chain-id", "00" * 32)
    assert ran.code == ExitCode.VERIFY_FAILED
    assert mine in ran.err


def test_verify_refuses_another_model_file(command: Command, bundle: Path, tmp_path: Path) -> None:
    ran = command("model", "verify", bundle, "--model", tmp_path / "genesis-model.safetensors")
    assert ran.code == ExitCode.VERIFY_FAILED


@pytest.mark.parametrize("data", [b"", b"\x90", b"bundle", bytes(1000)])
def test_verify_refuses_what_is_no_bundle(command: Command, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "b"
    path.write_bytes(data)
    ran = command("model", "verify", path)
    assert ran.code == ExitCode.VERIFY_FAILED
    assert "no provenance bundle" in ran.err


def test_a_path_that_is_not_there_is_a_usage_error(command: Command, bundle: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    for words in (("verify", missing), ("verify", bundle, "--model", missing)):
        ran = command("model", *words)
        assert ran.code == ExitCode.USAGE
        assert "nowhere: No such file or directory. Correct the path" in ran.err


def test_export_ends_with_the_command_that_verifies_the_bundle(
    command: Command, chain_home: Home, tmp_path: Path
) -> None:
    model, proof = tmp_path / "m", tmp_path / "b"
    ran = command("model", "export", "--home", chain_home.path, "--out", model, "--bundle", proof)
    words = ran.out.splitlines()[-1].partition(f"Next: {program()} ")[2].split()
    verified = command(*words)
    assert verified.code == 0
    assert verified.err == ""


def test_any_changed_byte_of_a_bundle_is_found(bundle: Path) -> None:
    data = bundle.read_bytes()
    for at in range(0, len(data), 97):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(ProvenanceError):
            verify_bundle(changed)


def change_last(bundle: Bundle, link: Link) -> Bundle:
    """The bundle with another last batch."""
    links = bundle.segments[-1].links
    return replace(bundle, segments=(Segment((*links[:-1], link)),))


def test_a_certificate_below_two_thirds_proves_nothing(bundle: Path) -> None:
    whole = Bundle.decode(bundle.read_bytes())
    last = whole.segments[-1].links[-1]
    few = replace(last.certificate, precommits=last.certificate.precommits[:4])
    with pytest.raises(ProvenanceError, match=r"#9.*not more than 2/3"):  # A1
        verify_bundle(change_last(whole, replace(last, certificate=few)).encode())


def test_a_batch_that_was_left_out_is_missed(bundle: Path) -> None:
    whole = Bundle.decode(bundle.read_bytes())
    links = whole.segments[0].links
    with pytest.raises(ProvenanceError, match="does not follow"):  # S3
        verify_bundle(replace(whole, segments=(Segment((links[0], *links[2:])),)).encode())


def test_a_shorter_chain_needs_the_blocks_of_its_own_last_round(bundle: Path) -> None:
    whole = Bundle.decode(bundle.read_bytes())
    with pytest.raises(ProvenanceError, match="full blocks"):
        verify_bundle(replace(whole, segments=(Segment(whole.segments[0].links[:-2]),)).encode())


def test_another_committee_or_list_of_voters_is_refused(bundle: Path) -> None:
    whole = Bundle.decode(bundle.read_bytes())
    other = replace(whole.committee, keys=tuple(reversed(whole.committee.keys)))
    with pytest.raises(ProvenanceError, match="committee"):
        verify_bundle(replace(whole, committee=other).encode())


def test_an_update_whose_scores_were_dropped_is_refused(bundle: Path) -> None:
    whole = Bundle.decode(bundle.read_bytes())
    update = whole.blocks[1]
    assert isinstance(update.body, UpdateBody)
    poorer = replace(update, body=replace(update.body, scores=update.body.scores[:1]))
    blocks = (whole.blocks[0], poorer, *whole.blocks[2:])
    with pytest.raises(ProvenanceError, match="#7"):  # R4
        verify_bundle(replace(whole, blocks=blocks).encode())

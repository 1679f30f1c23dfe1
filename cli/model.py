"""`fedchain-node model`: list, export and verify global models."""

import os
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import file_error
from cli.options import HomeOption, JsonOption, usage_error
from cli.output import print_json, print_table, program, say, short, warn
from ledger.blobs import BlobError, file_ref
from ledger.genesis import load_genesis
from ledger.types import BlobRef, ModelBody, UpdateBody
from node.audit_home import OpenHome, open_home
from node.errors import ExitCode, NodeError
from node.provenance import BUNDLE_BYTES_MAX, Provenance, ProvenanceError, make_bundle, verify_bundle

app = typer.Typer()


class Format(StrEnum):
    """How a model is written."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"


@app.command("list")
def list_models(home: HomeOption, as_json: JsonOption = False) -> None:
    """List the global models of a chain, one for each round, and whether this home holds their bytes.

    Example: fedchain-node model list --home testnet/hospital-1
    """
    with open_home(home) as opened:
        models = [_describe(opened, at) for at in range(0, opened.tip().height + 1, opened.genesis.params.round_length)]
    if as_json:
        print_json(models)
        return
    rows = [
        (m["height"], m["round"], m["updates"], m["bytes"], "yes" if m["here"] else "no", m["model"]) for m in models
    ]
    print_table((">height", ">round", ">updates", ">bytes", "here", "model"), rows)


def _describe(opened: OpenHome, height: int) -> dict[str, object]:
    ref = get_model(opened, height)
    slots = range(max(1, height - opened.genesis.params.round_length + 1), height)
    updates = sum(isinstance(opened.block(at).body, UpdateBody) for at in slots)
    return {
        "height": height,
        "round": opened.round_of(height),
        "updates": updates,
        "bytes": ref.size,
        "here": opened.blobs.has(ref.blob),
        "model": ref.blob.hex(),
    }


def get_model(opened: OpenHome, height: int) -> BlobRef:
    """The model that the block at `height` names; raises `NodeError` USAGE where it names none (H2)."""
    body = opened.block(height).body
    if not isinstance(body, ModelBody):
        k = opened.genesis.params.round_length
        raise usage_error(f"--height {height}: no model block; models stand at multiples of {k} (H2)")
    return body.model


@app.command("export")
def export(
    home: HomeOption,
    output: Annotated[Path, typer.Option("--out", help="The file to write.")],
    height: Annotated[int | None, typer.Option("--height", min=0, help="Its block; default: the newest.")] = None,
    format: Annotated[Format, typer.Option("--format", help="As what.")] = Format.SAFETENSORS,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Write its provenance bundle here.")] = None,
) -> None:
    """Write a global model to a file, and with --bundle the proof of where it comes from.

    Example: fedchain-node model export --home testnet/hospital-1 --out model.safetensors --bundle model.bundle
    """
    with open_home(home) as opened:
        at = _newest(opened) if height is None else height
        data = read_model(opened, at)
        proof = None if bundle is None else _make_bundle(opened, at)
    if format is Format.TORCH:
        _write_torch(data, output)
    else:
        write_bytes(output, data)
    say(f"{output}: model of #{at}, {output.stat().st_size} bytes")
    if bundle is not None and proof is not None:
        write_bytes(bundle, proof)
        say(f"{bundle}: its provenance, {len(proof)} bytes")
        model = f" --model {output}" if format is Format.SAFETENSORS else ""
        trusted = f" --genesis {opened.home.genesis}"
        say(f"Next: {program()} model verify {bundle}{model}{trusted}")


def _newest(opened: OpenHome) -> int:
    k = opened.genesis.params.round_length
    return opened.tip().height // k * k


def read_model(opened: OpenHome, height: int) -> bytes:
    """The bytes of the model at `height`, checked (B1); raises `NodeError` or `BlobError`."""
    ref = get_model(opened, height)
    try:
        return opened.blobs.read(ref.blob)
    except FileNotFoundError:
        initial = opened.home.genesis_model
        if height == 0 and initial.is_file() and file_ref(initial) == ref:
            return initial.read_bytes()
        message = f"model {short(ref.blob)} of #{height} is not in {opened.home.blobs}. Start the peer: it fetches it"
        raise NodeError(ExitCode.DATA_DAMAGED, message) from None
    except BlobError as error:
        message = f"{error}. Remove that file and start the peer: it fetches it again"
        raise NodeError(ExitCode.DATA_DAMAGED, message) from error


def _make_bundle(opened: OpenHome, height: int) -> bytes:
    try:
        return make_bundle(opened.genesis, opened.store, height, opened.states())
    except ProvenanceError as error:
        raise NodeError(ExitCode.DATA_DAMAGED, f"no bundle of #{height}: {error}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace a file at once; raises `NodeError`."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        os.replace(fresh, path)
    except OSError as error:
        raise file_error(error, f"writing {path}") from error


def _write_torch(data: bytes, output: Path) -> None:
    """In a process of its own: torch is not loaded here."""
    with tempfile.TemporaryDirectory(prefix="fedchain-") as folder:
        source = Path(folder) / "model.safetensors"
        write_bytes(source, data)
        command = [sys.executable, "-m", "fl.state_dict", str(source), str(output.absolute())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise NodeError(ExitCode.FAULTY_MACHINE, f"{output}: cannot be written as a torch state dict: {reason[0]}")


@app.command("verify")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The provenance bundle.")],
    model: Annotated[Path | None, typer.Option("--model", help="The model file that it shall be of.")] = None,
    genesis: Annotated[Path | None, typer.Option("--genesis", help="A genesis document that you trust.")] = None,
    chain_id: Annotated[str | None, typer.Option("--chain-id", help="A chain id that you trust.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a provenance bundle offline: headers and certificates from genesis on, scores, weights, the model's id.

    Without --genesis or --chain-id it proves only that some consortium made the model: compare the chain id it prints.

    Example: fedchain-node model verify model.bundle --model model.safetensors --genesis genesis.json
    """
    found = _verify(bundle)
    trusted = load_genesis(genesis).chain_id.hex() if genesis is not None else chain_id
    if trusted is not None and found.genesis.chain_id.hex() != trusted.lower():
        raise _refused(bundle, f"is of chain {found.genesis.chain_id.hex()}, trusted is {trusted}")
    if model is not None:
        _check_model(bundle, found, model)
    described = describe_provenance(found)
    if as_json:
        print_json(described)
        return
    print_table(("provenance", ""), [(n, v) for n, v in described.items() if n not in ("contributions", "committee")])
    columns = ("contributor", ">height", ">value", ">weight", ">share", ">scores")
    print_table(columns, [tuple(item.values()) for item in described["contributions"]])  # type: ignore[attr-defined]
    if trusted is None:
        warn("nothing here was compared with a chain id that you trust: use --genesis or --chain-id")


def _verify(bundle: Path) -> Provenance:
    try:
        if bundle.stat().st_size > BUNDLE_BYTES_MAX:
            raise _refused(bundle, f"larger than {BUNDLE_BYTES_MAX} bytes")
        return verify_bundle(bundle.read_bytes())
    except ProvenanceError as error:
        raise _refused(bundle, str(error)) from error
    except OSError as error:
        raise file_error(error, f"reading {bundle}") from error


def _check_model(bundle: Path, found: Provenance, model: Path) -> None:
    try:
        ref = file_ref(model)
    except OSError as error:
        raise file_error(error, f"reading {model}") from error
    if ref != found.model:
        raise _refused(bundle, f"proves model {short(found.model.blob)}, and {model} is {short(ref.blob)} (B1)")


def _refused(bundle: Path, reason: str) -> NodeError:
    advice = "Do not trust this model; ask for another bundle"
    return NodeError(ExitCode.VERIFY_FAILED, f"{bundle}: {reason.rstrip('.')}. {advice}")


def describe_provenance(found: Provenance) -> dict[str, object]:
    """What a bundle proves, in JSON's types; shares of the aggregate are fractions (R7)."""
    names = {member.member_key: member.name for member in found.genesis.members}
    total = sum(item.weight for item in found.contributions if item.used)
    return {
        "chain": found.genesis.chain,
        "chain_id": found.genesis.chain_id.hex(),
        "height": found.height,
        "round": found.round,
        "model": found.model.blob.hex(),
        "model_bytes": found.model.size,
        "committee": [names.get(key, short(key)) for key in found.committee],
        "contributions": [
            {
                "trainer": names.get(item.trainer, short(item.trainer)),
                "height": item.height,
                "value": item.value / 1e6,
                "weight": item.weight,
                "share": round(item.weight / total, 4) if item.used and total else 0.0,
                "scores": item.scorers,
            }
            for item in found.contributions
        ],
    }

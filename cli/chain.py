"""`fedchain-node chain`: read and audit the chain of a home, offline."""

import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from cli.blocks import block_row, describe_block, describe_round
from cli.options import HomeOption, JsonOption, usage_error
from cli.output import make_console, print_json, print_table, say, warn
from ledger.chain import Finding
from ledger.heights import first_height, model_height
from ledger.state import State
from node.audit_home import OpenHome, open_home
from node.errors import ExitCode, NodeError
from node.verify import verify_chain

app = typer.Typer()

BLOCKS_SHOWN: Final = 20
BLOCKS_SHOWN_MAX: Final = 100_000


@app.command("blocks")
def blocks(
    home: HomeOption,
    start: Annotated[int | None, typer.Option("--from", min=0, help="First height; default: the last ones.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=BLOCKS_SHOWN_MAX, help="How many.")] = BLOCKS_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """List blocks: height, round, kind, proposer and what they carry.

    Example: fedchain-node chain blocks --home testnet/hospital-1 --from 0 --limit 50
    """
    with open_home(home) as opened:
        tip = opened.tip().height
        first = max(0, tip - limit + 1) if start is None else start
        heights = range(first, min(tip, first + limit - 1) + 1)
        if not heights:
            raise usage_error(f"--from {first}: the chain of {home} ends at #{tip}")
        if as_json:
            print_json([describe_block(opened, opened.block(at)) for at in heights])
            return
        rows = [block_row(opened, opened.block(at)) for at in heights]
    print_table((">height", ">round", "kind", "proposer", "carries", "block"), rows, f"{home}: tip #{tip}")


@app.command("block")
def block(
    height: Annotated[int, typer.Argument(min=0, help="Its height.")], home: HomeOption, as_json: JsonOption = False
) -> None:
    """Show one block in full: header, body and certificate.

    Example: fedchain-node chain block 7 --home testnet/hospital-1
    """
    with open_home(home) as opened:
        described = describe_block(opened, opened.block(height))
    if as_json:
        print_json(described)
        return
    print_table((f"block #{height}", ""), [row for name, value in described.items() for row in _rows(name, value)])


def _rows(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        for at, item in enumerate(value, 1):
            for inner, found in item.items():
                yield from _rows(f"{name} {at}: {inner}", found)
    elif isinstance(value, list):
        yield name, ", ".join(str(item) for item in value) or "-"
    else:
        yield name, value


@app.command("round")
def round(
    number: Annotated[int, typer.Argument(min=0, help="The round, from 0.")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Show one round: its committee, each trainer's offer with all scores, and the model it produced.

    Example: fedchain-node chain round 3 --home testnet/hospital-1
    """
    with open_home(home) as opened:
        k, tip = opened.genesis.params.round_length, opened.tip().height
        if model_height(k, number) > tip:
            where = f"#{first_height(k, number)}..#{model_height(k, number)}"
            raise usage_error(f"round {number} ({where}) is not final yet: the chain of {home} ends at #{tip}")
        described = describe_round(opened, number)
    if as_json:
        print_json(described.to_json())
        return
    say(f"round {number}: committee {', '.join(described.committee)}; model #{described.height}")
    columns = ("trainer", "outcome", ">height", ">samples", ">value", ">weight", "scores (value - baseline)")
    print_table(columns, described.rows())


@app.command("verify")
def verify(home: HomeOption, as_json: JsonOption = False) -> None:
    """Re-derive everything from genesis: signatures, certificates, scores, elections, roots, every aggregate and blob.

    Ends with exit code 14 and the number of the first wrong block where anything was changed.

    Example: fedchain-node chain verify --home testnet/hospital-1
    """
    with open_home(home) as opened:
        found = run_verify(opened)
    if as_json:
        print_json(found)
        return
    if found["pending_from"] is not None:
        warn(
            f"the models from #{found['pending_from']} on were not computed again: their blobs are not here yet. "
            f"Start the peer: it fetches them"
        )
    say(f"{home}: verified #0..#{found['height']}, {found['models']} models; tip {found['tip']}")
    say(
        f"{found['blocks']} blocks and {found['mb']:.2f} MB in {found['seconds']:.2f} s: "
        f"{found['blocks_per_s']:.0f} blocks/s, {found['mb_per_s']:.2f} MB/s"
    )


def run_verify(opened: OpenHome) -> dict[str, object]:
    """Audit a home; returns what was covered and how fast. Raises `NodeError` VERIFY_FAILED naming the block."""
    started_s = time.perf_counter()
    checker = opened.checker()
    state = None
    with make_console(stderr=True).status("verifying ...") as status:
        for found in verify_chain(opened.genesis, opened.store, checker):
            if isinstance(found, Finding):
                raise _failed(opened, found)
            state = found
            status.update(f"verifying: #{state.height}")
    height = 0 if state is None else state.height
    seconds = time.perf_counter() - started_s
    block_bytes = sum(len(opened.block(at).encode()) for at in range(height + 1))
    mb = (checker.bytes_read + block_bytes) / 1e6
    return {
        "height": height,
        "tip": _tip(opened, state),
        "blocks": height + 1,
        "models": height // opened.genesis.params.round_length + 1,
        "pending_from": checker.pending_from,
        "mb": mb,
        "seconds": seconds,
        "blocks_per_s": (height + 1) / seconds,
        "mb_per_s": mb / seconds,
    }


def _tip(opened: OpenHome, state: State | None) -> str:
    return (opened.block(0).header.id() if state is None else state.last_hash).hex()


def _failed(opened: OpenHome, finding: Finding) -> NodeError:
    advice = (
        "This copy of the chain is damaged. Move its data folder "
        f"({opened.home.data}) away and start the peer: it syncs again from the others. Keep keys/ as it is"
    )
    return NodeError(ExitCode.VERIFY_FAILED, f"block #{finding.height} is wrong: {finding.reason}. {advice}")

"""The end of a testnet: do all peers agree, what did it cost, and what to try next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.drafts import write_text
from cli.output import make_console, program, say, warn
from cli.testnet_display import rounds_table
from cli.testnet_homes import Net
from cli.testnet_plan import Plan
from cli.testnet_watch import Outcome, PeerStatus, RoundLine
from node.errors import ExitCode, NodeError

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds from the command on (to the first block's round, to the table), and CPU seconds of all processes."""

    start_s: float
    wall_s: float
    cpu_s: float


def check_agreement(net: Net, outcome: Outcome) -> None:
    """Raise `NodeError` FAULTY_MACHINE unless all living peers have one tip and one state root."""
    seen: dict[tuple[object, object, object], list[str]] = {}
    names = net.names()
    for status in outcome.statuses:
        place = (status.get("height"), status.get("tip"), status.get("state_root"))
        seen.setdefault(place, []).append(names.get(str(status.get("member")), "?"))
    if len(seen) != 1:
        views = "; ".join(f"{', '.join(who)}: #{place[0]} {str(place[1])[:16]}" for place, who in seen.items())
        message = f"the peers do not agree ({views}). Run `fedchain-node chain verify` on each home in {net.folder}"
        raise NodeError(ExitCode.FAULTY_MACHINE, message)


def describe_round(line: RoundLine) -> dict[str, object]:
    """A round as the JSON file has it."""
    return {
        "round": line.round,
        "height": line.height,
        "accuracy": line.accuracy,
        "committee": list(line.committee),
        "offered": line.offered,
        "accepted": line.accepted,
        "rejected": line.rejected,
        "empty": line.empty,
        "seconds": round(line.seconds, 3),
    }


def describe_peer(status: PeerStatus, names: Mapping[str, str]) -> dict[str, object]:
    """A peer as the JSON file has it; megabytes are 10^6 bytes."""
    member = str(status.get("member"))
    return {
        "member": member,
        "name": names.get(member, ""),
        "height": status.get("height"),
        "tip": status.get("tip"),
        "state_root": status.get("state_root"),
        "cpu_s": round(number(status, "cpu_s"), 3),
        "rss_mb": round(number(status, "rss_mb"), 1),
        "sent_mb": round(number(status, "sent_bytes") / MB, 3),
        "received_mb": round(number(status, "received_bytes") / MB, 3),
        "loop_stall_max_ms": round(number(status, "loop_stall_max_ms"), 1),
        "loop_own_max_ms": round(number(status, "loop_own_max_ms"), 1),
    }


def number(entry: Mapping[str, object], name: str) -> float:
    """A number of a JSON object, 0 where it is none."""
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def describe(plan: Plan, net: Net, outcome: Outcome, costs: Costs) -> dict[str, object]:
    """The whole JSON file."""
    peers = [describe_peer(status, net.names()) for status in outcome.statuses]
    last = outcome.rounds[-1]
    sent_mb = sum(number(peer, "sent_mb") for peer in peers)
    return {
        "parameters": {**plan.describe(), "chain_id": net.genesis.chain_id.hex(), "home": str(plan.home.absolute())},
        "rounds": [describe_round(line) for line in outcome.rounds],
        "peers": peers,
        "attackers": [peer.name for peer in net.peers if peer.attack is not None],
        "totals": {
            "rounds": len(outcome.rounds),
            "height": last.height,
            "accuracy": last.accuracy,
            "offered": sum(line.offered for line in outcome.rounds),
            "accepted": sum(line.accepted for line in outcome.rounds),
            "rejected": sum(line.rejected for line in outcome.rounds),
            "empty": sum(line.empty for line in outcome.rounds),
            "agree": True,
            "start_s": round(costs.start_s, 3),
            "wall_s": round(costs.wall_s, 3),
            "cpu_s": round(costs.cpu_s, 3),
            "peers_cpu_s": round(sum(number(peer, "cpu_s") for peer in peers), 3),
            "rss_mb_max": max(number(peer, "rss_mb") for peer in peers),
            "sent_mb": round(sent_mb, 3),
            "received_mb": round(sum(number(peer, "received_mb") for peer in peers), 3),
            "sent_mb_per_round": round(sent_mb / len(outcome.rounds), 3),
            "loop_stall_max_ms": max(number(peer, "loop_stall_max_ms") for peer in peers),
            "loop_own_max_ms": max(number(peer, "loop_own_max_ms") for peer in peers),
        },
    }


def write_summary(path: Path, summary: Mapping[str, object]) -> None:
    """Write the JSON file."""
    write_text(path, json.dumps(summary, indent=2) + "\n")


def print_end(plan: Plan, net: Net, outcome: Outcome, costs: Costs, model: Path) -> None:
    """The final table, the agreement, the model's path, and three commands to try."""
    lines = {line.round: line for line in outcome.rounds}
    console = make_console()
    console.print(rounds_table(lines, plan.round_length, console.width))
    status = outcome.statuses[0]
    tip, root = str(status.get("tip"))[:16], str(status.get("state_root"))[:16]
    count = len(outcome.statuses)
    say(f"All {count} peers agree on block #{status.get('height')}: tip {tip}, state root {root}")
    peers = [describe_peer(item, net.names()) for item in outcome.statuses]
    rss = max(number(peer, "rss_mb") for peer in peers)
    say(f"{costs.wall_s:.1f} s, of them {costs.start_s:.1f} s to start; {costs.cpu_s:.1f} CPU-s; {rss:.0f} MB a peer")
    say(f"Final model: {model}")
    if not any(line.accepted for line in outcome.rounds):
        warn("no update was accepted in any round, so this is the initial model. Look for errors of the task above")
    say()
    say("Try next:")
    for purpose, command in _next_commands(net, model):
        say(f"  # {purpose}")
        say(f"  {command}")


def _next_commands(net: Net, model: Path) -> Sequence[tuple[str, str]]:
    first = net.peers[0].home.path
    bundle, call = model.with_suffix(".bundle"), program()
    return (
        ("audit a peer's chain", f"{call} chain verify --home {first}"),
        ("prove where the model is from", f"{call} model export --home {first} --out {model} --bundle {bundle}"),
        ("start a peer again", f"{call} start --home {first}"),
    )

"""Reading a peer's status, showing rounds, and summing up."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cli.output import program
from cli.testnet_display import LiveDisplay, PlainDisplay, short_names
from cli.testnet_homes import Net, PeerHome
from cli.testnet_plan import Plan
from cli.testnet_summary import Costs, check_agreement, describe, print_end
from cli.testnet_watch import Outcome, RoundLine, parse_line
from node.errors import ExitCode, NodeError
from node.home import Home
from tests.ledger.helpers_ledger import make_document

NAMES = {"aa": "hospital-1", "bb": "hospital-2"}
LINE = RoundLine(0, 5, "00" * 32, ("hospital-1", "hospital-2"), 4, 3, 1, 1, 0.75)
STATUS: Mapping[str, object] = {
    "member": "aa", "height": 10, "tip": "11" * 32, "state_root": "22" * 32, "cpu_s": 1.5, "rss_mb": 80.0,
    "sent_bytes": 2_000_000, "received_bytes": 1_000_000, "loop_stall_max_ms": 12.34,
    "loop_own_max_ms": 3.21, "round": 2, "phase": "training",
    "committee": ["aa", "cc"],
}  # fmt: skip


def make_net(folder: Path) -> Net:
    """Two peers of a consortium; the second attacks."""
    genesis = make_document(4)
    keys = [member.member_key for member in genesis.members[:2]]
    homes = [Home(folder / name) for name in ("hospital-1", "hospital-2")]
    peers = (
        PeerHome("hospital-1", homes[0], keys[0], "http://127.0.0.1:1"),
        PeerHome("hospital-2", homes[1], keys[1], "http://127.0.0.1:2", "sign-flip"),
    )
    return Net(folder, genesis, peers)


def outcome(net: Net, **second: object) -> Outcome:
    """Two rounds, and two peers that agree unless `second` says otherwise."""
    rounds = (replace(LINE, accuracy=0.5), replace(LINE, round=1, height=10, accuracy=0.9))
    first = {**STATUS, "member": net.peers[0].member_key.hex()}
    return Outcome(rounds, (first, {**first, "member": net.peers[1].member_key.hex(), **second}))


def test_a_round_of_the_status_is_read_with_names_for_members() -> None:
    entry = {"round": 3, "height": 20, "model": "ab", "committee": ["bb", "cc"], "offered": 4, "accepted": 2}
    line = parse_line({**entry, "rejected": 1, "empty": 2, "seconds": 1.25}, NAMES)
    assert line == RoundLine(3, 20, "ab", ("hospital-2", "cc"), 4, 2, 1, 2, 1.25)


@pytest.mark.parametrize("entry", [None, [], {}, {"round": "x", "committee": 3, "seconds": "y"}])
def test_a_malformed_round_is_read_as_zeros(entry: object) -> None:
    assert parse_line(entry, NAMES) == RoundLine(0, 0, parse_line(entry, NAMES).model, (), 0, 0, 0, 0, 0.0)


def test_plain_lines_come_in_order_once_their_accuracy_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    second = replace(LINE, round=1, height=10, accuracy=0.9, evaluated=True)
    with PlainDisplay(5, NAMES) as display:
        assert "accuracy" in capsys.readouterr().out
        display.on_round(LINE)
        display.on_round(second)
        assert capsys.readouterr().out == ""
        display.on_round(replace(LINE, evaluated=True))
        shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown] == [["0", "1-4"], ["1", "6-9"]]
    assert "0.9000" in shown[1]


def test_a_round_without_accuracy_is_shown_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainDisplay(5, NAMES) as display:
        display.on_round(LINE)
        display.on_warning("hospital-2 ended")
    out = capsys.readouterr().out
    assert "hospital-1, hospital-2" in out
    assert "warning: hospital-2 ended" in out


def test_the_live_display_shows_rounds_and_what_goes_on_now() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=150, height=40)
    with LiveDisplay(5, NAMES, console) as display:
        display.on_status(STATUS)
        display.on_round(replace(LINE, accuracy=0.5))
        display.on_warning("look here")
    shown = stream.getvalue()
    assert "0.5000" in shown
    assert "now: round 2, #10, training; committee hospital-1, cc" in shown
    assert "look here" in shown


def test_the_live_display_fits_a_small_terminal_and_keeps_the_newest_rounds() -> None:
    stream = io.StringIO()
    committee = tuple(f"hospital-{number}" for number in (28, 13, 11, 25))
    with LiveDisplay(5, NAMES, Console(file=stream, force_terminal=True, width=80, height=24)) as display:
        for number in range(40):
            stream.truncate(0)
            display.on_round(replace(LINE, round=number, height=5 * number + 5, committee=committee))
        frame = stream.getvalue()
    lines = frame.splitlines()
    assert len(lines) <= 24
    assert sum("28, 13, 11, 25" in line for line in lines) == 18
    assert "…" not in frame
    assert any(line.split()[:2] == ["39", "200"] for line in lines)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["hospital-1", "hospital-12"], "1, 12"),
        (["hospital-1", "bank-2"], "hospital-1, bank-2"),
        (["lyon"], "lyon"),
        ([], ""),
    ],
)
def test_names_lose_the_word_that_they_share(names: list[str], shown: str) -> None:
    assert short_names(names) == shown


def test_the_summary_has_parameters_rounds_peers_and_totals(tmp_path: Path) -> None:
    net, plan = make_net(tmp_path), Plan(home=tmp_path, peers=2, committee=1, rounds=2, attackers=1)
    found = describe(plan, net, outcome(net), Costs(1.0, 2.0, 3.0))
    assert list(found) == ["parameters", "rounds", "peers", "attackers", "totals"]
    rounds, peers, totals = found["rounds"], found["peers"], found["totals"]
    assert isinstance(rounds, list)
    assert isinstance(peers, list)
    assert isinstance(totals, dict)
    keys = ["round", "height", "accuracy", "committee", "offered", "accepted", "rejected", "empty", "seconds"]
    assert list(rounds[1]) == keys
    expected = {"member", "height", "tip", "state_root", "cpu_s", "rss_mb", "sent_mb", "received_mb"}
    assert expected <= peers[0].keys()
    assert (totals["accuracy"], totals["sent_mb"], totals["accepted"]) == (0.9, 4.0, 6)
    assert found["attackers"] == ["hospital-2"]


def test_peers_that_disagree_are_named(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    check_agreement(net, outcome(net))
    with pytest.raises(NodeError, match="hospital-2: #10 3333") as caught:
        check_agreement(net, outcome(net, tip="33" * 32))
    assert caught.value.exit_code == ExitCode.FAULTY_MACHINE
    with pytest.raises(NodeError):
        check_agreement(net, outcome(net, state_root="33" * 32))


def test_the_end_names_the_model_and_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, plan = make_net(tmp_path), Plan(home=tmp_path, peers=2, committee=1, rounds=2)
    print_end(plan, net, outcome(net), Costs(1.0, 2.0, 3.0), tmp_path / "model.safetensors")
    out = capsys.readouterr().out
    assert f"Final model: {tmp_path / 'model.safetensors'}" in out
    assert out.count(f" --home {tmp_path / 'hospital-1'}") == 3
    assert out.count(f"{program()} ") == 3
    assert "All 2 peers agree" in out


def test_each_next_command_stands_whole_on_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, plan = make_net(tmp_path), Plan(home=tmp_path, peers=2, committee=1, rounds=2)
    print_end(plan, net, outcome(net), Costs(1.0, 2.0, 3.0), tmp_path / "model.safetensors")
    lines = capsys.readouterr().out.splitlines()
    assert f"  {program()} chain verify --home {tmp_path / 'hospital-1'}" in lines
    assert f"  {program()} start --home {tmp_path / 'hospital-1'}" in lines


def test_a_network_that_learned_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, plan = make_net(tmp_path), Plan(home=tmp_path, peers=2, committee=1, rounds=2)
    found = outcome(net)
    nothing = replace(found, rounds=tuple(replace(line, accepted=0) for line in found.rounds))
    print_end(plan, net, found, Costs(1.0, 2.0, 3.0), tmp_path / "m")
    assert capsys.readouterr().err == ""
    print_end(plan, net, nothing, Costs(1.0, 2.0, 3.0), tmp_path / "m")
    assert "no update was accepted in any round" in capsys.readouterr().err

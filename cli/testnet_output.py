"""Homes without a network: for containers, or for processes that somebody else starts."""

from cli.output import program, say
from cli.testnet_homes import choose_places, container_places, is_complete, make_members, make_net
from cli.testnet_plan import Plan
from node.errors import ExitCode, NodeError
from node.home import Home


def write_homes(plan: Plan, *, compose_endpoints: bool) -> int:
    """Write a home for each peer to `plan.home`; complete ones that are there already stay as they are.

    In containers the homes are volumes: empty folders that exist already. Raises `NodeError` and `GenesisError`.
    """
    plan.check()
    places = container_places(plan.peers) if compose_endpoints else choose_places(plan)
    names = [place.name for place in places]
    if is_complete(plan.home, names):
        say(f"{plan.home}: homes of {names[0]} to {names[-1]} are there already; nothing was changed")
        return ExitCode.OK
    for name in names:
        if Home(plan.home / name).keys.member_key.exists():
            message = (
                f"{plan.home / name}: has keys, but not all homes are complete. Remove all of them, or use another"
            )
            raise NodeError(ExitCode.USAGE, message)
    plan.home.mkdir(parents=True, exist_ok=True)
    net = make_net(plan, places, make_members(plan, places), None)
    say(f"{plan.home}: {len(net.peers)} homes of chain {net.genesis.chain_id.hex()[:16]}")
    say(f"Next: {program()} start --home {net.peers[0].home.path}")
    return ExitCode.OK

"""`fedchain-node start`: run the peer of a home."""

import typer

from cli.options import HomeOption
from node.home import Home


def start(home: HomeOption) -> None:
    """Run the peer of HOME until Ctrl-C or SIGTERM; it resumes wherever it stopped (Y2).

    Example: fedchain-node start --home hospital-1
    """
    Home(home).check()
    # the whole network side is loaded here only: a home that is not complete says so at once
    from node.peer import run_peer

    raise typer.Exit(run_peer(home))

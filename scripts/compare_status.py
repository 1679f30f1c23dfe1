"""Reads the statuses of several peers as JSON, prints a table, and fails unless all agree on tip and state root."""

import json
import sys
from collections.abc import Iterator
from typing import Any


def read_values(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in `text`, whatever white space is between them."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        text = text[end:]
        yield value


def main(peers: int) -> int:
    """0 where all `peers` statuses are there and equal in height, tip and state root."""
    statuses = list(read_values(sys.stdin.read()))
    head = f"{'peer':<8} {'height':>6} {'round':>5} {'connected':>9} {'rss MB':>7} {'sent MB':>8}"
    print(f"{head}  {'tip':<16}  state root")
    for item in statuses:
        costs = f"{item['rss_mb']:>7.1f} {item['sent_bytes'] / 1e6:>8.3f}"
        where = f"{item['height']:>6} {item['round']:>5} {item['peers_connected']:>9}"
        print(f"{item['name']:<8} {where} {costs}  {item['tip'][:16]}  {item['state_root'][:16]}")
    seen = {(item["height"], item["tip"], item["state_root"]) for item in statuses}
    if len(statuses) != peers:
        print(f"error: {len(statuses)} of {peers} peers answered", file=sys.stderr)
        return 1
    if len(seen) != 1:
        print("error: the peers do not agree on one tip and state root", file=sys.stderr)
        return 1
    print(f"all {peers} peers agree on block #{statuses[0]['height']}, tip {statuses[0]['tip']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

"""What a testnet is asked to be: the options of `fedchain-node testnet`, checked before anything starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.drafts import make_params
from fl.attacks import ATTACKS
from fl.partition import PartitionError, parse_scheme
from ledger.genesis import GenesisError
from ledger.params import VOTERS_MAX, Params
from node.errors import ExitCode, NodeError

CHAIN: Final = "testnet"
BEACON_LINKS_MIN: Final = 100
PORT_MAX: Final = 65_535
Scalar = bool | int | float | str

# Durations that suit one machine: no network delay, and every peer shares the same few cores.
LOOPBACK_MS: Final = {
    "grace_ms": 300,
    "batch_wait_ms": 500,
    "fetch_deadline_ms": 5_000,
    "timeout_propose_ms": 1_000,
    "timeout_vote_ms": 500,
    "timeout_step_ms": 250,
}

# How much an update may worsen the mean cross-entropy on the shared test set (R3, millionths), for even and for skewed
# shards: measured so that honest updates near the optimum pass and a sign-flipped one fails from the first round on.
TOLERANCES: Final = {"digits": (120_000, 1_000_000), "fashion-mnist": (600_000, 3_000_000)}
TOLERANCE_DEFAULT: Final = 120_000

# The longest update (R2, millionths of the L2 norm). Honest ones on shards of about 100 images hardly reach 3; without
# this bound an attacker may overshoot so far in the first rounds that the loss, bounded by a flat guess, hides it.
NORMS: Final = {"digits": 3_000_000}


@dataclass(frozen=True, slots=True)
class Plan:
    """A testnet to be: who takes part, by which rules, on which data."""

    home: Path
    peers: int = 8
    committee: int = 4
    round_length: int = 5
    rounds: int = 10
    task: str = "digits"
    settings: dict[str, Scalar] = field(default_factory=dict)
    partition: str = "iid"
    seed: int = 0
    attackers: int = 0
    attack: str = "sign-flip"
    voters: str = "members"
    election: str = "draw"
    codec: str = "int8"
    deadline_ms: int = 30_000
    base_port: int | None = None
    params: dict[str, Scalar] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `NodeError` USAGE or `GenesisError` for what cannot be, naming the option."""
        if not 2 <= self.peers <= VOTERS_MAX:
            raise _wrong(f"--peers {self.peers}: a testnet has 2 to {VOTERS_MAX} peers")
        if self.committee >= self.peers:
            raise GenesisError(
                f"--committee {self.committee} is too large for --peers {self.peers}: a committee does not train, so "
                "at least one other peer is needed (recommended: three times as many peers)"
            )
        if not 0 <= self.attackers <= self.peers:
            raise _wrong(f"--attackers {self.attackers}: there are {self.peers} peers")
        if self.attack not in ATTACKS:
            raise _wrong(f"--attack {self.attack!r}: known are {', '.join(ATTACKS)}")
        if self.base_port is not None and not 1024 <= self.base_port <= PORT_MAX - 2 * self.peers:
            raise _wrong(f"--base-port {self.base_port}: use 1024 to {PORT_MAX - 2 * self.peers}")
        try:
            parse_scheme(self.partition)
        except PartitionError as error:
            raise _wrong(f"--partition: {error}") from error
        self.make_params(shared_test_set=True)

    def make_params(self, *, shared_test_set: bool) -> Params:
        """The genesis parameters; raises `GenesisError`."""
        fields: dict[str, object] = {
            "round_length": self.round_length,
            "rounds_max": self.rounds,
            "committee_size": self.committee,
            "batch_max": max(1, self.round_length - 1),
            "voters": self.voters,
            "election": self.election,
            "round_deadline_ms": self.deadline_ms,
            "beacon_links": self.beacon_links,
            "score_tolerance": self.score_tolerance,
            "test_set": "shared" if shared_test_set else "local",
            **LOOPBACK_MS,
            **({"update_norm_max": NORMS[self.task]} if self.task in NORMS else {}),
            **self.params,
        }
        params = make_params(fields)
        if self.codec not in params.codecs:
            raise _wrong(f"--codec {self.codec!r}: use one of {', '.join(params.codecs)}")
        return params

    @property
    def score_tolerance(self) -> int:
        """What suits task and partition, in millionths."""
        even, skewed = TOLERANCES.get(self.task, (TOLERANCE_DEFAULT, TOLERANCE_DEFAULT))
        return even if self.partition == "iid" else skewed

    @property
    def beacon_links(self) -> int:
        """L (R9): short, since each peer computes its chain at its start."""
        given = self.params.get("beacon_links")
        return given if isinstance(given, int) else max(BEACON_LINKS_MIN, self.rounds)

    @property
    def last_height(self) -> int:
        """The height of the last model block: learning ends there (H2)."""
        return self.round_length * self.rounds

    def settings_of(self, index: int) -> dict[str, Scalar]:
        """The task's settings of peer `index`, from 0; a task of one's own gets --setting and nothing else."""
        if ":" in self.task:
            return dict(self.settings)
        shard: dict[str, Scalar] = {"shard": index, "shards": self.peers, "partition": self.partition}
        return {**shard, "seed": self.seed, **self.settings}

    def attack_of(self, index: int) -> str | None:
        """How peer `index` poisons its updates; the last `attackers` ones do."""
        return self.attack if index >= self.peers - self.attackers else None

    def describe(self) -> dict[str, object]:
        """The parameters as the summary's JSON has them."""
        return {
            "peers": self.peers,
            "committee": self.committee,
            "round_length": self.round_length,
            "rounds": self.rounds,
            "task": self.task,
            "settings": self.settings,
            "partition": self.partition,
            "seed": self.seed,
            "attackers": self.attackers,
            "attack": self.attack if self.attackers else None,
            "voters": self.voters,
            "election": self.election,
            "codec": self.codec,
            "deadline_ms": self.deadline_ms,
        }


def _wrong(message: str) -> NodeError:
    return NodeError(ExitCode.USAGE, message)

"""A peer's home folder: config/, keys/ and data/, and what must be there before it may start."""

from dataclasses import dataclass
from pathlib import Path

from node.errors import ExitCode, NodeError, disk_error
from node.keyfiles import KeyFolder


@dataclass(frozen=True, slots=True)
class Home:
    """The layout of a home; `check` says what is missing."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config" / "config.toml"

    @property
    def genesis(self) -> Path:
        return self.path / "config" / "genesis.json"

    @property
    def genesis_model(self) -> Path:
        return self.path / "config" / "genesis-model.safetensors"

    @property
    def keys(self) -> KeyFolder:
        return KeyFolder(self.path / "keys")

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def chain(self) -> Path:
        return self.data / "chain"

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def partial(self) -> Path:
        """Blobs that are still being fetched."""
        return self.blobs / "partial"

    @property
    def work(self) -> Path:
        return self.data / "work"

    def make(self) -> None:
        """Create the folders of a new home; existing ones stay as they are."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.keys.folder.mkdir(mode=0o700, exist_ok=True)
            for folder in (self.config.parent, self.data, self.chain, self.blobs, self.partial, self.work):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(error, f"creating {self.path}") from error

    def check(self) -> None:
        """Raise a `NodeError` for the first thing that is missing. A missing data folder is made anew: a peer without
        data syncs from the others (Y1), but never without its signer's state (A5)."""
        if not self.path.is_dir():
            message = f"{self.path}: no such home. Make one with: fedchain-node init --home {self.path}"
            raise NodeError(ExitCode.CONFIG, message)
        self._check_file(self.config, ExitCode.CONFIG, f"fedchain-node init --home {self.path}")
        self._check_file(self.genesis, ExitCode.GENESIS, f"fedchain-node init --home {self.path} --genesis FILE")
        copy = f"copy it from another member to {self.genesis_model}"
        self._check_file(self.genesis_model, ExitCode.GENESIS, copy)
        self._check_keys()
        self.make()

    def _check_keys(self) -> None:
        command = f"fedchain-node keys new --home {self.path}"
        self._check_file(self.keys.member_key, ExitCode.KEYS, command)
        if not self.keys.signer_state.is_file():
            raise NodeError(
                ExitCode.SIGNER_STATE,
                f"{self.keys.signer_state} is missing, but {self.keys.member_key.name} is there: this home was copied "
                "or restored without its record of what it has signed. It could sign twice differently, which costs "
                "the whole stake (A5, A7). If the original home still exists, use that one. If not, make new keys "
                f"({command}, in a new home) and let the other members admit them",
            )
        self._check_file(self.keys.transport_key, ExitCode.KEYS, command)
        self._check_file(self.keys.transport_certificate, ExitCode.KEYS, command)

    def _check_file(self, path: Path, exit_code: ExitCode, remedy: str) -> None:
        if not path.is_file():
            raise NodeError(exit_code, f"{path} is missing. To get one: {remedy}")

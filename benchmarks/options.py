"""What every benchmark is given."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """`work`: a folder for homes; `data`: where Fashion-MNIST lies; `quick`: a smoke run, its figures mean little."""

    work: Path
    data: Path
    repeat: int = 3
    quick: bool = False

    @property
    def has_fashion(self) -> bool:
        """Whether the data set is there."""
        return any(self.data.glob("train-images-idx3-ubyte*"))

    def explain_missing(self) -> str:
        """Why a benchmark on Fashion-MNIST was skipped."""
        return (
            f"skipped: {self.data} holds no Fashion-MNIST. Install Debian's package dataset-fashion-mnist, or name the "
            "folder of its four IDX files with --data"
        )

"""Task `fashion-mnist`: 28x28 images of clothes (Xiao et al. 2017, arXiv 1708.07747) from IDX files in a folder.

Debian's package dataset-fashion-mnist has them. By default the first 18,000 images train, split over the peers;
of the first 2,000 test images the first half scores and the second half reports.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fl.adapters import TorchTask
from fl.idx import IdxError, find_idx, read_idx
from fl.task import TaskError
from fl.tasks.images import Images, ImageSettings, build_task

HIDDEN: Final = 128
DATA_DEFAULT: Final = "/usr/share/datasets/fashion-mnist"  # where Debian's package puts the files


@dataclass(frozen=True, slots=True, kw_only=True)
class FashionSettings(ImageSettings):
    """`data`: the folder of the IDX files; `images`: how many train in all; `tests`: half score, half report."""

    data: str = DATA_DEFAULT
    images: int = 18_000
    tests: int = 2_000

    def check(self) -> None:
        """Raise `TaskError` for the first value out of its range."""
        super(FashionSettings, self).check()
        if self.images < 1 or self.tests < 2:
            raise TaskError(f"settings 'images' >= 1 and 'tests' >= 2 are needed, not {self.images}, {self.tests}")


def load(**settings: object) -> TorchTask:
    """Return the task of one peer; raises `TaskError` for a bad setting or data that cannot be read."""
    checked = FashionSettings.from_mapping("fashion-mnist", settings)
    try:
        report, scoring, train = read_fashion(checked.data, checked.images, checked.tests)
    except IdxError as error:
        hint = "apt install dataset-fashion-mnist, or set `data` to the folder of its four IDX files"
        raise TaskError(f"task 'fashion-mnist': {error} ({hint})") from error
    return build_task(checked, HIDDEN, train, scoring, report)


@functools.lru_cache(maxsize=2)
def read_fashion(folder: str, images: int, tests: int) -> tuple[Images, Images, Images]:
    """Return (report, scoring, training) images, parsed once a process and inherited by its forks.

    Raises `IdxError`.
    """
    found, half = _read_part(Path(folder), "t10k", tests), tests // 2
    scoring = Images(found.pixels[:half], found.labels[:half], found.white)
    report = Images(found.pixels[half:], found.labels[half:], found.white)
    return report, scoring, _read_part(Path(folder), "train", images)


def _read_part(folder: Path, part: str, count: int) -> Images:
    pixels = read_idx(find_idx(folder, f"{part}-images-idx3-ubyte"), count)
    labels = read_idx(find_idx(folder, f"{part}-labels-idx1-ubyte"), count)
    if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or labels.ndim != 1 or labels.max(initial=0) > 9:
        raise IdxError(f"{folder}: {part} holds {pixels.shape} images, {labels.shape} labels; not Fashion-MNIST")
    return Images(pixels, labels, white=255)

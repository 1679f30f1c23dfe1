"""A model file as a torch state dict: `python -m fl.state_dict MODEL.safetensors OUT.pt`.

A program of its own, so that whoever runs it never loads torch. What it writes opens with
`torch.load(OUT, weights_only=True)`.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fl.tensors import TensorError, Tensors, decode_tensors


def save_state_dict(tensors: Tensors, path: Path) -> None:
    """Write named arrays as a state dict, whole or not at all; raises OSError."""
    import torch

    state = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    fresh = path.with_name(path.name + ".new")
    torch.save(state, fresh)
    os.replace(fresh, path)


def main(arguments: Sequence[str]) -> int:
    """Convert one file; 1 and a line on stderr where that fails."""
    source, target = arguments
    try:
        save_state_dict(decode_tensors(Path(source).read_bytes()), Path(target))
    except (OSError, RuntimeError, TensorError) as error:
        print(f"{source} -> {target}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

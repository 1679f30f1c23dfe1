import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    """As in the fork server: more threads only slow such small networks down."""
    torch.set_num_threads(1)

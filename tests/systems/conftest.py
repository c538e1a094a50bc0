"""The systems of others set up torch for their own process; the tests share one."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)

"""FedChain's benchmarks: `python -m benchmarks` runs them all, `python -m benchmarks floor --quick` one of them."""

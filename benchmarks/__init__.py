"""What unimsg costs, beside the bare way and the peers, in one run: `python -m benchmarks`."""

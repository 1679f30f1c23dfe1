"""The running peer: transport, gossip, blob exchange, sync, the one loop, workers, API and configuration."""

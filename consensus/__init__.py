"""Who decides: agreement (Tendermint), the signer, the round's pool and the pure core `step(event) -> effects`."""

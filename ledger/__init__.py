"""What the chain is: types, canonical bytes, keys, heights, genesis, certificates, state, transition and stores."""

"""The command `fedchain-node`: options in, tables or JSON out; what it does is done by the rooms below."""

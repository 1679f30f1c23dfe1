"""What is learned: tasks, models, training, update codecs and aggregation rules.

A leaf: it knows neither the chain nor the network. Only `fl.models`, `fl.training`, `fl.adapters` and
`fl.tasks` import torch, so that every other module may be imported by a process that must stay small.
"""

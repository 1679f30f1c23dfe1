"""Aggregation rules, one a file (R7): the new model from the old one and the accepted updates.

Every machine must compute the same bytes: only elementwise float64 operations in block order, no BLAS, no
linalg, no exp or log; `check_golden_vectors` asks this machine at start-up whether it does.
"""

from fl.aggregation.golden import GoldenVectorError, check_golden_vectors
from fl.aggregation.rules import RULES, aggregate

__all__ = ["RULES", "GoldenVectorError", "aggregate", "check_golden_vectors"]

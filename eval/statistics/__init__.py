"""Statistics from records: pure functions on arrays, one entry per item. No model and no torch here."""

from residency.eval.statistics.equivalence import (
    Verdict,
    is_equivalent,
    is_non_inferior,
    items_to_decide,
    minimum_detectable_effect,
    verdict_of,
)
from residency.eval.statistics.paired import Interval, Pair, compare_pair, paired_bootstrap, ratio_bootstrap
from residency.eval.statistics.resampling import clustered_error, codes_of
from residency.eval.statistics.significance import benjamini_hochberg, holm, mcnemar_midp, sign_flip_p

__all__ = [
    "Interval",
    "Pair",
    "Verdict",
    "benjamini_hochberg",
    "clustered_error",
    "codes_of",
    "compare_pair",
    "holm",
    "is_equivalent",
    "is_non_inferior",
    "items_to_decide",
    "mcnemar_midp",
    "minimum_detectable_effect",
    "paired_bootstrap",
    "ratio_bootstrap",
    "sign_flip_p",
    "verdict_of",
]

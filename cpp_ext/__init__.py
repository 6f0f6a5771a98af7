"""The averaging tail: pooled sums, window sums, classifier and mean over the strata."""

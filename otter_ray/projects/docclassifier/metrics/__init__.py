"""`valid_fpr@4` and its companions over all pairs, exact, with bootstrap intervals."""

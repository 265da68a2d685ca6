"""Exact binomial test against chance, for a forced choice between two.

References: Conover (1999), Practical Nonparametric Statistics, section 3.1 (binomial test) and 3.4 (sign
test, ties left out).
"""


def binomial_p(successes: int, n: int) -> float:
    """Return the two-sided p-value of `successes` in `n` independent trials with probability 1/2 each.

        p = min(1, 2 P(X >= max(k, n - k))),  X ~ Binomial(n, 1/2)

    Args:
        successes: Number of successes k.
        n: Number of trials, without ties.

    Raises:
        ValueError: There are no trials, or more successes than trials.
    """
    from scipy.special import betainc

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} trials")
    larger = max(successes, n - successes)
    # P(X >= k) = I_1/2(k, n - k + 1).
    return min(1.0, 2 * float(betainc(larger, n - larger + 1, 0.5)))

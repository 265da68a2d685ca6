"""Exact binomial test against chance, for a forced choice between two.

References: Conover (1999), Practical Nonparametric Statistics, section 3.1 (binomial test) and 3.4 (sign
test, ties left out).
"""


def binomial_p(successes: int, n: int) -> float:
    """Two-sided p-value of `successes` in `n` independent trials, each a success by chance 1/2.

        p = min(1, 2 P(X >= max(k, n - k))),  X ~ Binomial(n, 1/2)

    Args:
        successes: k.
        n: Trials; ties are to be left out before.

    Raises:
        ValueError: There are no trials, or more successes than trials.
    """
    from scipy.special import betainc

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} trials")
    larger = max(successes, n - successes)
    # P(X >= k) = I_1/2(k, n - k + 1).
    return min(1.0, 2 * float(betainc(larger, n - larger + 1, 0.5)))

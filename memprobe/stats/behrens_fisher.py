"""Distribution of a difference of means over its standard error, where both variances are estimated.

    T = N(0, 1) / sqrt(a X / f + (1 - a) Y / g),  X ~ chi^2_f, Y ~ chi^2_g, a the share of the first variance

X / (X + Y) is Beta(f / 2, g / 2) and independent of X + Y ~ chi^2_{f + g}, so T is a Beta mixture of
Student's t with f + g degrees of freedom: Ray and Pitman (1961), Journal of the Royal Statistical Society B
23, 377-384. Student's t with Satterthwaite's degrees of freedom matches two moments of the denominator and
has much heavier tails: its denominator can come close to 0, while that of T does so only if both X and Y do.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Nodes of the integral, dense where X is small. The error is below 1e-3 of the tail, for 1 or more degrees of
# freedom and tails down to 1e-6.
_NODES, _DENSE = 24, 3
# Most steps of false position towards the logarithm of a quantile, and the accepted error of the log tail.
_STEPS, _CLOSE = 40, 1e-6
_LEAST = 1e-300


def mixed_tail(value: Floats, share: Floats, few: Floats, many: Floats) -> Floats:
    """Return P(T < -value), shape (n,).

    Args:
        value: 0 or more, shape (n,).
        share: Share a of the first variance, 0 to 1, shape (n,).
        few: Degrees of freedom f of the first variance, shape (n,).
        many: Degrees of freedom g of the second variance, shape (n,).
    """
    weight, inverse = _nodes(share, few, many)
    return _tail(value, few + many, weight, inverse)


def mixed_quantile(tail: float, share: Floats, few: Floats, many: Floats) -> Floats:
    """Return the value that T exceeds with a given probability, shape (n,).

    Args:
        tail: The probability, above 0 and at most 0.5.
        share: Share a of the first variance, 0 to 1, shape (n,).
        few: Degrees of freedom f of the first variance, shape (n,).
        many: Degrees of freedom g of the second variance, shape (n,).
    """
    from scipy.special import ndtri, stdtrit

    weight, spread = _nodes(share, few, many)
    # T is less spread than Student's t with the smaller of f and g, and more than a normal: Mickey and
    # Brown (1966), https://doi.org/10.1214/aoms/1177699517.
    low = np.full(len(share), max(-float(ndtri(tail)), 1e-9))
    high = np.maximum(-stdtrit(np.minimum(few, many), tail), low)

    def falling(at: Floats) -> Floats:
        return np.log(np.maximum(_tail(np.exp(at), few + many, weight, spread), _LEAST) / tail)

    return np.exp(_root(falling, low, high))


def _root(falling: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Return the logarithm at which a falling function is 0, by the Illinois rule of false position."""
    left, right = np.log(low), np.log(high)
    above, below = np.maximum(falling(left), 0.0), np.minimum(falling(right), 0.0)
    at = left
    for _ in range(_STEPS):
        width = above - below
        at = np.where(width > 0, (left * -below + right * above) / np.where(width > 0, width, 1.0), left)
        found = falling(at)
        if (np.abs(found) < _CLOSE).all():
            break
        up = found > 0
        left, right = np.where(up, at, left), np.where(up, right, at)
        above, below = np.where(up, found, above / 2), np.where(up, below / 2, found)
    return np.asarray(at)


@cache
def _gauss() -> tuple[Floats, Floats]:
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(node), np.asarray(weight)


def _nodes(share: Floats, few: Floats, many: Floats) -> tuple[Floats, Floats]:
    """Return the weights of the nodes, shape (n_nodes,), and the factors of `value`, shape (n, n_nodes)."""
    from scipy.special import betaincinv

    node, weight = _gauss()
    # u = v^3 with v uniform on the nodes; du = 3 v^2 dv.
    at = (node + 1) / 2
    weight = weight / 2 * _DENSE * at ** (_DENSE - 1)
    beta = betaincinv(few[:, None] / 2, many[:, None] / 2, at[None, :] ** _DENSE)
    ratio = share[:, None] * beta / few[:, None] + (1 - share[:, None]) * (1 - beta) / many[:, None]
    return weight, np.sqrt((few + many)[:, None] * ratio)


def _tail(value: Floats, freedom: Floats, weight: Floats, spread: Floats) -> Floats:
    from scipy.special import stdtr

    return np.asarray(stdtr(freedom[:, None], -value[:, None] * spread) @ weight)

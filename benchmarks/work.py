"""What a computation must move and compute, counted from shapes, and the least time that a machine needs for it.

Only what no implementation can leave out is counted: each table is read once, products take two operations per term,
and what is small beside these is left out. The least time is that of the bytes or of the operations: the longer one.
"""

from __future__ import annotations

from dataclasses import dataclass

from bandwidth import bytes_per_rating, operations_per_rating

FLOAT, POSITION = 4, 4
"""Bytes of a number, and of a position in a history."""
ADAM = 7
"""Passes of Adam over a table: weight, gradient and two moments are read, weight and moments are written."""
SUMS = 8
"""Of a step of AANMF++ over all ratings: histories and audiences, vectors and biases, forward and backward."""


@dataclass(frozen=True)
class Machine:
    """Bytes and floating point operations per second; bytes per second from the host to the device."""

    bandwidth: float
    flops: float
    copying: float


@dataclass(frozen=True)
class Work:
    """Bytes of the device's memory, operations, and bytes that come from the host."""

    moved: float
    operations: float
    copied: float = 0.0

    def seconds(self, machine: Machine) -> float:
        """The least time."""
        return max(self.moved / machine.bandwidth, self.operations / machine.flops, self.copied / machine.copying)


@dataclass(frozen=True)
class Shapes:
    """Of data and of a model: users, items, ratings, attributes per user, factors, members, strengths of the ridge."""

    users: int
    items: int
    ratings: int
    slots: int = 3
    factors: int = 32
    members: int = 1
    strengths: int = 0


def aanmf_rating(shapes: Shapes, layer: int) -> Work:
    """One rating in training: see `bandwidth.py`."""
    return Work(
        bytes_per_rating(shapes.factors, shapes.slots), operations_per_rating(shapes.factors, shapes.slots, layer)
    )


def member_step(shapes: Shapes, fitted: int) -> Work:
    """A step of a member of AANMF++ that fits some of the ratings: sums over the others, the fitted ones, and Adam."""
    rows, columns = shapes.users + shapes.items, shapes.factors + 1
    table = FLOAT * columns * rows
    sums = SUMS * shapes.ratings * (POSITION + FLOAT) + SUMS * table
    own = fitted * (20 + 2 * 3 * FLOAT * columns)
    terms = SUMS * shapes.ratings * columns + 3 * fitted * columns * (1 + shapes.slots)
    return Work(sums + own + ADAM * table, 2 * terms)


def flagship_lists(shapes: Shapes, users: int) -> Work:
    """Scores of all items for some users by AANMF++: products of vectors, and similarities to what they have rated.

    The scores of a block are written once, and read once to find the best.
    """
    rated = shapes.ratings / shapes.users * users
    terms = users * shapes.items * shapes.factors * shapes.members + rated * shapes.items * shapes.strengths
    tables = FLOAT * shapes.factors * (users + shapes.items) * shapes.members
    similarities = FLOAT * shapes.items * min(rated, shapes.items) if shapes.strengths else 0
    return Work(tables + similarities + 2 * FLOAT * users * shapes.items, 2 * terms)


def aanmf_lists(shapes: Shapes, users: int, layer: int) -> Work:
    """Scores of all items for some users by AANMF: pooled attributes and dense layers of every pair.

    Attention weights are left out: they need a score per item and attribute value, not per pair.
    """
    pairs, factors = users * shapes.items, shapes.factors
    tables = FLOAT * factors * (users + shapes.items)
    return Work(tables + 2 * FLOAT * pairs, pairs * 2 * (factors * shapes.slots + factors * layer + layer))


def newcomer(shapes: Shapes, given: int) -> Work:
    """A list for a new user with some ratings: a regression on these for each strength, then as for any user."""
    alone = Shapes(1, shapes.items, given, shapes.slots, shapes.factors, shapes.members, shapes.strengths)
    scored = flagship_lists(alone, 1)
    return Work(scored.moved, scored.operations + 2 * shapes.strengths * given**3 / 3)


def loading(size: float) -> Work:
    """A model of some bytes, from the host's memory."""
    return Work(0, 0, size)

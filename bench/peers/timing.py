# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing: every contestant runs in every round, so that clocks and neighbours disturb all
alike, and each round starts with another one, so that none always follows the same."""
import time

import numpy


def statistics(milliseconds):
    return {"ms_median": float(numpy.median(milliseconds)),
            "ms_p10": float(numpy.percentile(milliseconds, 10)),
            "ms_p90": float(numpy.percentile(milliseconds, 90)),
            "repeats": len(milliseconds)}


def paired_ratio(ours, theirs, rounds):
    """How many times as long theirs take: the median over the rounds of the ratio within a round, in which a
    clock that drifts from round to round divides out. Lists of milliseconds, round after round."""
    of_rounds = [[numpy.median(part) for part in numpy.array_split(ms, rounds)] for ms in (theirs, ours)]
    return float(numpy.median(numpy.divide(*of_rounds)))


def timed(call, repeats):
    """A contestant that calls `call` once unmeasured and then `repeats` times, and gives milliseconds."""

    def contestant():
        call()
        out = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            out.append(1e3 * (time.perf_counter() - start))
        return out

    return contestant


def interleave(contestants, rounds):
    """{name: milliseconds of all rounds} of contestants {name: function that gives milliseconds}.

    A contestant may also give {sub-name: milliseconds}, when one process times several rows."""
    samples = {}
    names = list(contestants)
    for r in range(rounds):
        for name in names[r % len(names):] + names[:r % len(names)]:
            result = contestants[name]()
            for key, values in (result.items() if isinstance(result, dict) else [(name, result)]):
                samples.setdefault(key, []).extend(values)
    return samples

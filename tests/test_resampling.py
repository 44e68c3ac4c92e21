"""mmbench/resampling.py: what rows score on other draws of the test split, against plain loops."""

import numpy as np
import pytest

from mmbench import resampling as module
from mmbench.resampling import Rules
from mmbench.statistics import resamples
from mmbench.summary import ALL
from mmbench.tasks import MultiBinary
from mmbench_metrics.classification import WeightedF1

TRIALS = {"one": [["a0", "a1"], ["b0", "b1"], ["c0", "c1"]], "other": [["d"], ["e"]]}
WEIGHTS = {"one": np.array([0.5, 0.5, 0.0]), "other": np.array([0.25, 0.75])}
LABELS = ["x", "y"]
SAMPLES, TRIALS_IN_ALL, SEEDS = 30, 8, [1, 2, 5]


@pytest.mark.parametrize("together", [1, 17, 1024])
def test_scores_are_those_of_plain_loops_however_many_are_judged_at_a_time(monkeypatch, together):
    monkeypatch.setattr(module, "TOGETHER", together)
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (SAMPLES, 2))
    decided = [
        {seed: rng.integers(0, 2, (2, SAMPLES, TRIALS_IN_ALL)) for seed in seeds}
        for seeds in (SEEDS, SEEDS, [1, 5])  # the last row lacks a seed
    ]
    metric = WeightedF1()
    rules = Rules(MultiBinary(tuple(LABELS)), TRIALS, WEIGHTS)
    found = rules.scored(metric, decided, targets, LABELS)
    assert list(found) == list(TRIALS)
    assert all(list(by_label) == [ALL, *LABELS] for by_label in found.values())
    drawn = [np.ones(SAMPLES), *resamples(SAMPLES)]
    assert found["one"]["x"].shape == (len(drawn), 3, 3, 4)
    for b in (0, 1, 1000):
        rows = np.repeat(np.arange(SAMPLES), drawn[b].astype(int))
        for m, own in enumerate(decided):
            for s, seed in enumerate(SEEDS):
                for protocol, first in (("one", 0), ("other", 6)):
                    by_label = []
                    for k, label in enumerate(LABELS):
                        here = found[protocol][label][b, m, s]
                        if seed not in own:
                            assert np.isnan(here).all()
                            continue
                        masks = len(TRIALS[protocol][0])
                        scores = [
                            metric.score(targets[rows, k], own[seed][k, rows, first + trial])
                            for trial in range(masks * len(TRIALS[protocol]))
                        ]
                        means = np.reshape(scores, (-1, masks)).mean(1)
                        np.testing.assert_allclose(here[:-1], means)
                        np.testing.assert_allclose(here[-1], means @ WEIGHTS[protocol])
                        by_label.append(here)
                    if by_label:
                        np.testing.assert_allclose(
                            found[protocol][ALL][b, m, s], np.mean(by_label, 0)
                        )

"""Reference values for realised quality, from scikit-learn. Writes quality.json.

    pip install scikit-learn==1.9.1 numpy
    python quality.py

Scores are single precision, as models give them. The positive class of `binary` is 1, predicted at scores of at least a
half. Probabilities are clipped to [1e-15, 1 - 1e-15] before the log loss, as ours are. scikit-learn's Brier score of two
classes is that of the positive class, of more the sum over the classes.
"""

import json
from pathlib import Path

import numpy as np
from sklearn import metrics

rng = np.random.default_rng(20)


def single(values):
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def binary(name, scores, labels, weights=None):
    scores, labels = single(scores), np.asarray(labels)
    both = np.clip(np.column_stack([1 - scores, scores]), 1e-15, 1 - 1e-15)
    return {
        "name": name,
        "scores": scores.tolist(),
        "labels": labels.tolist(),
        **({} if weights is None else {"weights": weights.tolist()}),
        "accuracy": metrics.accuracy_score(labels, (scores >= 0.5).astype(int), sample_weight=weights),
        "log_loss": metrics.log_loss(labels, both, labels=[0, 1], sample_weight=weights),
        "brier": metrics.brier_score_loss(labels, scores, sample_weight=weights),
        "auc": metrics.roc_auc_score(labels, scores, sample_weight=weights),
        "positive_rate": float(np.average(labels, weights=weights)),
    }


def multiclass(name, probabilities, labels):
    probabilities, labels = single(probabilities), np.asarray(labels)
    classes = list(range(probabilities.shape[1]))
    one_hot = np.eye(len(classes))[labels]
    clipped = np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1 - 1e-15)
    # scikit-learn divides rows by their sums; single precision leaves these an ulp from 1.
    of_sklearn = metrics.log_loss(labels, probabilities, labels=classes)
    log_loss = float(-np.log(clipped).mean())
    assert abs(of_sklearn - log_loss) < 1e-6, (of_sklearn, log_loss)
    brier = metrics.brier_score_loss(labels, probabilities, labels=classes)
    own = float(((probabilities - one_hot) ** 2).sum(axis=1).mean())
    assert abs(brier - own) < 1e-6, (brier, own)
    return {
        "name": name,
        "probabilities": probabilities.tolist(),
        "labels": labels.tolist(),
        "accuracy": metrics.accuracy_score(labels, probabilities.argmax(axis=1)),
        "log_loss": log_loss,
        "brier": own,
    }


def regression(name, predicted, truth, weights=None):
    predicted, truth = single(predicted), np.asarray(truth, dtype=np.float64)
    return {
        "name": name,
        "predicted": predicted.tolist(),
        "truth": truth.tolist(),
        **({} if weights is None else {"weights": weights.tolist()}),
        "mae": metrics.mean_absolute_error(truth, predicted, sample_weight=weights),
        "rmse": metrics.root_mean_squared_error(truth, predicted, sample_weight=weights),
    }


def weights(n):
    """Among them 0; each a number of eighths, so that nothing of it is rounded."""
    return rng.integers(0, 40, n) / 8


def scored(n, spread, base):
    log_odds = rng.normal(base, spread, n)
    scores = 1 / (1 + np.exp(-log_odds))
    return scores, (rng.random(n) < scores).astype(int)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def many(n, k, sharpness):
    logits = rng.normal(0, sharpness, (n, k))
    probabilities = softmax(logits)
    labels = np.array([rng.choice(k, p=p) for p in softmax(0.7 * logits)])
    return probabilities, labels


table = {
    "binary": [
        binary("balanced", *scored(200, 2.0, 0.0)),
        binary("rare", *scored(400, 1.0, -3.0)),
        binary("sure, and sometimes wrong", *scored(150, 8.0, 0.0)),
        binary("0 and 1", [0.0, 1.0, 1.0, 0.0, 0.25], [0, 1, 0, 1, 0]),
        binary("no better than chance", rng.random(200), rng.integers(0, 2, 200)),
    ],
    "multiclass": [
        multiclass("three classes", *many(120, 3, 1.5)),
        multiclass("ten classes", *many(80, 10, 3.0)),
        multiclass("five classes, all but even", *many(60, 5, 0.1)),
    ],
    "regression": [
        regression("around 0", rng.normal(0, 1, 150), rng.normal(0, 1, 150)),
        regression("large", rng.normal(1e6, 1e3, 80), rng.normal(1e6, 1e3, 80)),
        regression("small", rng.normal(0, 1e-6, 80), rng.normal(0, 1e-6, 80)),
    ],
    "weighted_binary": [
        binary("balanced", *scored(60, 2.0, 0.0), weights(60)),
        binary("rare", *scored(120, 1.0, -3.0), weights(120)),
        binary("sure, and sometimes wrong", *scored(60, 8.0, 0.0), weights(60)),
    ],
    "weighted_regression": [
        regression("around 0", rng.normal(0, 1, 60), rng.normal(0, 1, 60), weights(60)),
        regression("large", rng.normal(1e6, 1e3, 60), rng.normal(1e6, 1e3, 60), weights(60)),
        regression("small", rng.normal(0, 1e-6, 60), rng.normal(0, 1e-6, 60), weights(60)),
    ],
}
Path(__file__).with_name("quality.json").write_text(json.dumps(table, separators=(",", ":")) + "\n")

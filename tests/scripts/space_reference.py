"""Writes tests/golden/space: small sets of points and what numpy, scipy, scikit-learn and scikit-dimension say of
them. The measurements of `sextant::space` must agree to 1e-4.

    pip install numpy scipy scikit-learn scikit-dimension
    python tests/scripts/space_reference.py
"""

import json
import os

import numpy as np
import skdim
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist, squareform
from scipy.stats import skew
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

FOLDER = os.path.join(os.path.dirname(__file__), "..", "golden", "space")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")


def sets():
    dice = np.random.default_rng(20)
    shared = dice.normal(size=(120, 5)) @ dice.normal(size=(5, 16))
    gap = np.zeros(16)
    gap[2] = 4.0
    yield "images", unit(shared + dice.normal(size=(120, 16)) * 0.5 + gap)
    yield "texts", unit(shared + dice.normal(size=(120, 16)) * 0.9 - gap)
    yield "few", unit(dice.normal(size=(12, 40)) + 0.4)
    sphere = np.zeros((400, 8))
    sphere[:, :4] = dice.normal(size=(400, 4))
    yield "sphere", unit(sphere)
    yield "clusters", unit(np.repeat(np.eye(8)[:2], 40, 0) + dice.normal(size=(80, 8)) * 0.05)


def uniformity(points):
    return np.log(np.exp(-2 * pdist(points, "sqeuclidean")).mean())


def concentration(points):
    distances = squareform(pdist(points))
    others = distances[~np.eye(len(points), dtype=bool)].reshape(len(points), -1)
    nearest, farthest = others.min(1), others.max(1)
    return ((farthest - nearest) / nearest).mean(), others.std() / others.mean()


def gap(left, right):
    shapes = [np.cov(side.T) for side in (left, right)]
    shared = np.trace(sqrtm(sqrtm(shapes[0]) @ shapes[1] @ sqrtm(shapes[0]))).real
    plane = RidgeClassifier(alpha=1.0).fit(
        np.vstack([left[::2], right[::2]]), [1] * len(left[::2]) + [-1] * len(right[::2]))
    truth = [1] * len(left[1::2]) + [-1] * len(right[1::2])
    cones = [cosine_similarity(side)[~np.eye(len(side), dtype=bool)].mean() for side in (left, right)]
    return {
        "centroid_distance": np.linalg.norm(left.mean(0) - right.mean(0)),
        "distribution_distance": np.sqrt(max(0, np.trace(shapes[0]) + np.trace(shapes[1]) - 2 * shared)),
        "separability": balanced_accuracy_score(truth, plane.predict(np.vstack([left[1::2], right[1::2]]))),
        "left_cosine": cones[0],
        "right_cosine": cones[1],
    }


def hubness(queries, gallery, k):
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery)
    found = search.kneighbors(None if queries is gallery else queries, return_distance=False)
    counts = np.bincount(found.ravel(), minlength=len(gallery))
    return {
        "skewness": skew(counts),
        "largest_share": counts.max() / len(queries),
        "anti_hubs": (counts == 0).mean(),
    }


def entropy_rank(singular):
    shares = singular[singular > singular.max() * 1e-6] / singular.sum()
    return np.exp(-(shares * np.log(shares)).sum())


def rank(points):
    centred = points - points.mean(0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    return {
        "rank": entropy_rank(np.linalg.svd(points, compute_uv=False)),
        "centred_rank": entropy_rank(np.linalg.svd(centred, compute_uv=False)),
        "participation": variances.sum() ** 2 / (variances ** 2).sum(),
    }


def intrinsic(points, k):
    distances = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors()
    return {
        "two_nearest": skdim.id.TwoNN(discard_fraction=0.1).fit(points).dimension_,
        "maximum_likelihood": skdim.id.MLE(unbiased=False).fit(
            points, precomputed_knn_arrays=distances, comb="mle").dimension_,
    }


def corrections(left, right):
    """Scores of texts (rows) against pictures (columns), corrected for hubs."""
    similarity = right @ left.T
    near_pictures = np.sort(similarity, axis=1)[:, -10:].mean(1)
    near_texts = np.sort(similarity, axis=0)[-10:].mean(0)
    csls = 2 * similarity - near_pictures[:, None] - near_texts[None]
    # QB-Norm with the first 60 texts as query bank and the rest as queries.
    bank, queries = similarity[:60], similarity[60:]
    inverted = np.exp(20 * queries) / np.exp(20 * bank).sum(0)
    hubs = set(bank.argmax(1))
    chosen = np.array([q.argmax() in hubs for q in queries])
    return {
        "csls_row_3": csls[3].tolist(),
        "inverted_best": inverted.argmax(1).tolist(),
        "dynamic_best": np.where(chosen, inverted.argmax(1), queries.argmax(1)).tolist(),
    }


def principal(points, kept):
    fitted = PCA(kept, svd_solver="full").fit(points)
    return {
        "explained": fitted.explained_variance_ratio_.tolist(),
        "absolute_first_row": np.abs(unit(fitted.transform(points))[0]).tolist(),
    }


def learners(images, texts):
    """Ridge and logistic fits that the examples' classifiers and the calibration use."""
    classes = np.arange(120) % 3
    targets = np.eye(3)[classes]
    ridge = Ridge(alpha=0.5, fit_intercept=True).fit(images, targets)
    positive = (images * texts).sum(1)
    negative = (images * np.roll(texts, 1, axis=0)).sum(1)
    logistic = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000).fit(
        np.concatenate([positive, negative])[:, None], [1] * 120 + [0] * 120)
    return {
        "ridge_first_row": ridge.predict(texts[:1])[0].tolist(),
        "logistic": [float(logistic.coef_[0, 0]), float(logistic.intercept_[0])],
    }


def main():
    os.makedirs(FOLDER, exist_ok=True)
    arrays = dict(sets())
    expected = {"sets": {}}
    for name, points in arrays.items():
        points.tofile(os.path.join(FOLDER, name + ".f32"))
        exact = points.astype(float)
        k = min(10, len(points) - 1)
        contrast, variation = concentration(exact)
        expected["sets"][name] = {
            "dimension": points.shape[1],
            "uniformity": uniformity(exact),
            "relative_contrast": contrast,
            "variation": variation,
            "k": k,
            "hubness": hubness(exact, exact, k),
            "rank": rank(exact),
            "intrinsic": intrinsic(exact, k),
        }
    images, texts = arrays["images"].astype(float), arrays["texts"].astype(float)
    matching = (images * texts).sum(1)
    shifted = (images * np.roll(texts, 1, axis=0)).sum(1)
    expected["pair"] = {
        "alignment": ((images - texts) ** 2).sum(1).mean(),
        "gap": gap(images, texts),
        "cross_hubness": hubness(texts, images, 10),
        "area_under_curve": roc_auc_score([1] * 120 + [0] * 120, np.concatenate([matching, shifted])),
        "histogram": np.histogram(matching, bins=20, range=(-1, 1))[0].tolist(),
        "matching_mean": matching.mean(),
        "matching_deviation": matching.std(),
    }
    expected["corrections"] = corrections(images, texts)
    expected["principal"] = principal(images, 6)
    expected["learners"] = learners(images, texts)
    with open(os.path.join(FOLDER, "expected.json"), "w") as file:
        json.dump(expected, file, indent=1, default=float)
        file.write("\n")


if __name__ == "__main__":
    main()

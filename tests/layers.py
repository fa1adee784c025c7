"""Layers of flax in NumPy, from weights in float64: what networks are tested against."""

import numpy as np


def layers(weights):
    """`dense`, `norm` and `project`, each `(name, x) -> y`; the last of the first attention layer."""
    attention = weights["MultiHeadDotProductAttention_0"]

    def dense(name, x):
        return x @ weights[name]["kernel"] + weights[name]["bias"]

    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * weights[name]["scale"] + weights[name]["bias"]

    def project(name, x):
        return np.einsum("sf,fhd->shd", x, attention[name]["kernel"]) + attention[name]["bias"]

    return dense, norm, project

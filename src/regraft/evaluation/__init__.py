"""evaluation: how good a model is, and how sure one can be of that.

In: labels and probabilities.     Out: figures with 95 % intervals, a confusion table, comparisons.
Never: trains, or opens a network.
"""

"""training: fitting what is not frozen.

In: features or tensors, labels, a rung's record.     Out: weights, and what cross-validation said of them.
Never: reads data, writes files, or looks at test examples.
"""

"""engines: ways to run the frozen part on one tile. One file each.

In: a network without its output layer, windows of equal shape.     Out: rows (windows, d) float32.
Never: decides which engine is used.
"""

"""strategy: pure decisions.

In: facts.     Out: choices, each with its reason and its source.
Never: imports torch, reads or writes a file, looks at a clock.
"""

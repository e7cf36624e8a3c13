"""workspace: the folders on disk.

In: bytes and plain facts.     Out: run folders, bundles, stored features.
Never: imports torch, decides anything, or leaves a half-written file under its final name.
Invariant: a file or folder that is there under its final name is whole; everything is written aside and renamed.
"""

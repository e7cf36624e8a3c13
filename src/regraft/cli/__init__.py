"""cli: parse, call jobs, print events.

In: the words of a command.     Out: text or JSON on standard output, progress on standard error, an exit code.
Never: decides anything; imports torch before a command needs it.
Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

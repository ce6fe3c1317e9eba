"""Deterministic simulation: the real services, store and client against the real stand-in, in one process.

One seed decides everything: when people and partners act, what goes wrong on the wire, when a process dies, and who
goes on at each boundary (every commit, every call that leaves). The same seed tells the same story again.

    python -m tests.simulation --seeds 0-300          judge many seeds
    python -m tests.simulation --seeds 17 --story     replay one, and tell it
    python -m tests.simulation --mutants              see each planted bug caught
"""

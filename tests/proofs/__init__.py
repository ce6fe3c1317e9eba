"""The proofs: what docs/guarantees.md promises, shown at length.

`python -m tests.proofs` runs them all and writes the table in docs/proofs.md; `--short` is what the suite runs, and
`--only races` one of them. A proof is a module with `prove(size)` that yields figures as it reaches them.
"""

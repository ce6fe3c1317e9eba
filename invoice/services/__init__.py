"""The use cases: the only floor that opens transactions and calls providers."""

"""The faces: read, validate, one service call, answer. Nothing here opens a transaction or calls a provider."""

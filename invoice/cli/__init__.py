"""The commands of the `flask` program. It finds them through the entry points in pyproject.toml."""

"""What is remembered. Knows the rules, no provider and no web."""

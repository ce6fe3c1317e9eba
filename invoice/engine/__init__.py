"""Who runs the recurring work."""

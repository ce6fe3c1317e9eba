"""What SECURITY.md claims, shown: its tables are whole, what they name exists, and no canary sings."""

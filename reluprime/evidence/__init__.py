"""What may be concluded from records: tests, findings, verdicts, and the registry of rules."""

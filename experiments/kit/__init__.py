"""What experiments share: the runner, data, verdicts, pages."""

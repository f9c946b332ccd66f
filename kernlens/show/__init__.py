"""Output for people: tables, figures and pages."""

"""Claim 5: the tangent kernel at the start tells what training will do, and where it does not."""

"""An online test replayed from logs: interleaving, propensities, coupons."""

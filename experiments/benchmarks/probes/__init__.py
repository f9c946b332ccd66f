"""Cost of predicting a head against cross-validation and against training it."""

"""How much do answers move between pretraining runs, and what does a second embedding add?"""

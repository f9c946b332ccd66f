"""Does a second embedding add anything to the first, and is it known before training?"""

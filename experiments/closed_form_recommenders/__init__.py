"""Do recommenders in closed form reach what is published of them on MovieLens-1M?"""

"""Do scores of influence say what leaving training rows out does?"""

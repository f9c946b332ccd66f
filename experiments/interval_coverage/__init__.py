"""How often does a nominal 90% interval of a score hold what it is for?"""

"""Does a deployed head serve the next version of its embedding, and which way to serve is best?"""

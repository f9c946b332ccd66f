"""Is what diagnose says of an embedding true when heads are trained?"""

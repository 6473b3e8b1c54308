"""One sign-gradient engine; the named attacks are settings of it."""

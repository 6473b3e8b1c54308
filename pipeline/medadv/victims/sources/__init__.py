"""Where does a model come from? Registered networks, programs, factories; and its weights."""

"""Values that hypothesis draws for tests of several rooms."""

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=8), lambda c: st.lists(c, max_size=3), max_leaves=6
)
"""Anything that a JSON or YAML file may hold."""

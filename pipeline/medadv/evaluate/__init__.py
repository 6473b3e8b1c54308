"""How robust is a model? What its clean and attacked answers mean to clinicians, over epsilon, and what speaks against the figures.

The room lies above `run`, `compare` and `export`, since an evaluation makes a corpus, and below `demo`.
"""

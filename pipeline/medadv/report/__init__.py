"""Who reads it? One offline HTML page about a corpus."""

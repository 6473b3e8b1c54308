"""Who speaks? One file a verb; each imports what it needs when it runs, so that --help answers at once."""

"""Who shows it? Phantoms of three modalities, small victims trained on the spot, three corpora."""

"""Who uses it? What training code imports: stored examples, and attacks on the weights of the moment."""

"""What is there? From a data set's layout to its samples, and from files to stored units."""

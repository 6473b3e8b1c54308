"""How does it lie in HDF5? Layout, codecs, reading and writing; nobody else imports h5py."""

"""HDF5 shards: the only place that opens HDF5 files."""

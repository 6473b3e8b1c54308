"""What has nothing to do with medicine? Errors, hashes, files, threads, the machine."""

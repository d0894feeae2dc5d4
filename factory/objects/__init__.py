"""Run folders that lie in an object store: this machine's copy of one, and how the two are kept the same."""

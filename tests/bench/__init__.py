"""Three of our nodes against three real etcds, in turns, under the same load. `python -m tests.bench --help`."""

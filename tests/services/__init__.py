"""The tests of each service, in a folder of its name."""

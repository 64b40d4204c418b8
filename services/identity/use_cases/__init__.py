"""The use cases of identity, a module for each subject."""

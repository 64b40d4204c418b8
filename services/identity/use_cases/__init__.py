"""What identity does, a file for each kind of deed."""

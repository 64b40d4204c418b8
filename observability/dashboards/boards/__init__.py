"""One module for each dashboard, or for a few that belong together; each declares and nothing else."""

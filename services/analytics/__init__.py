"""Reports, the dashboard and the audit log."""

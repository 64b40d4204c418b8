"""Which service a request goes to, and the way there: the table of routes, their rules, and the forwarding."""

"""The console: pages for people who run the shop and for its customers, over the public API."""

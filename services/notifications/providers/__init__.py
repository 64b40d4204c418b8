"""Who carries messages: a provider per channel, behind one protocol."""

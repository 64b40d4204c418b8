"""Who brings the parcels: a carrier behind a protocol, and the simulation of one."""

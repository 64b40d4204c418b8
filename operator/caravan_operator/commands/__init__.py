"""The commands of `caravan-operator`, a module each; `main.py` gives them their names."""

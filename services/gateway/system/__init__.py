"""How the shop's processes are doing (`/v1/system`): `collect.py` asks every process of every service, `merge.py` makes
one answer of theirs, whose shapes are in `view.py`.
"""

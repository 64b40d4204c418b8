"""The dashboards: declared in `boards/`, written as Grafana's JSON beside this file by `make docs`, checked by
`lint.py`, and drawn by `picture.py` for a reader without Grafana.
"""

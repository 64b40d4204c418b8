"""Releases that the tests of the charts render."""

import pytest

from tests.charts.conftest import RELEASES

every_release = pytest.mark.parametrize("release", RELEASES)

"""PromQL that many panels share. `scope` is what stands in the braces of a selector."""

SHOP = 'namespace=~"$namespace"'
SERVICE = 'namespace=~"$namespace", service=~"$service"'
WINDOW = "$__rate_interval"


def select(metric: str, scope: str = SHOP) -> str:
    return f"{metric}{{{scope}}}"


def sum_rate(metric: str, by: str = "", scope: str = SHOP) -> str:
    """Of a counter, per second."""
    return f"{_aggregate('sum', by)} (rate({select(metric, scope)}[{WINDOW}]))"


def take_max(metric: str, by: str = "", scope: str = SHOP) -> str:
    """Of a gauge that several processes tell alike."""
    return f"{_aggregate('max', by)} ({select(metric, scope)})"


def take_sum(metric: str, by: str = "", scope: str = SHOP) -> str:
    """Of a gauge of which each process has its own part."""
    return f"{_aggregate('sum', by)} ({select(metric, scope)})"


def quantile(share: float, histogram: str, by: str = "", scope: str = SHOP) -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, {sum_rate(f'{histogram}_bucket', labels, scope)})"


def mean(histogram: str, by: str = "", scope: str = SHOP) -> str:
    return f"{sum_rate(f'{histogram}_sum', by, scope)} / {sum_rate(f'{histogram}_count', by, scope)}"


def share(part: str, whole: str) -> str:
    """0 where nothing of the part has happened, and nothing where the whole stands still."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def or_none(query: str, label: str) -> str:
    """A line at 0 where nothing has happened yet: an empty panel could as well be a broken one."""
    return f'{query} or on () label_replace(vector(0), "{label}", "none", "", "")'


def _aggregate(function: str, by: str) -> str:
    return f"{function} by ({by})" if by else function

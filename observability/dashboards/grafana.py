"""Makes Grafana's dashboard JSON of a board, by Grafana's own builders: version 1, which every Grafana loads."""

import json
from collections.abc import Callable
from typing import Any

from grafana_foundation_sdk.builders import bargauge, logs, loki, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard

from observability.dashboards.model import Board, Panel, Query, Row, Source, Variable

WIDTH = 24
TAG = "caravan"
ALL = dashboard.VariableOption(selected=True, text="All", value="$__all")
TITLES: dict[Source, str] = {"prometheus": "Metrics", "loki": "Logs", "jaeger": "Traces"}
# A mark where a version appears that was not there a minute ago.
DEPLOYMENTS = (
    "sum by (version, commit) (caravan_build_info) unless sum by (version, commit) (caravan_build_info offset 1m)"
)

PanelBuilder = Any
"""The builders of all kinds have the same methods and no class in common."""
BUILDERS: dict[str, Callable[[], PanelBuilder]] = {
    "lines": timeseries.Panel,
    "stat": stat.Panel,
    "bars": bargauge.Panel,
    "states": statetimeline.Panel,
    "table": table.Panel,
    "logs": logs.Panel,
    "traces": table.Panel,
}


class JaegerQuery(variants.Dataquery):
    """A search for traces by tags; Grafana's builders have none for Jaeger."""

    def __init__(self, tags: str, ref_id: str) -> None:
        self._tags = tags
        self._ref_id = ref_id

    def build(self) -> variants.Dataquery:
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": _refer_to_source("jaeger").to_json(),
            "limit": 20,
            "queryType": "search",
            "refId": self._ref_id,
            "service": "$traced_service",
            "tags": self._tags,
        }


def render_board(board: Board) -> str:
    """The file's text, the same bytes for the same board."""
    builder = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .timezone("browser")
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time(f"now-{board.hours}h", "now")
        .refresh("30s")
        .link(
            builders.DashboardLink("Dashboards")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    sources = list(dict.fromkeys(("prometheus", *(panel.source for panel in board.panels))))
    for source in sources:
        builder.with_variable(builders.DatasourceVariable(source).label(TITLES[source]).type(source))
    for variable in board.variables:
        builder.with_variable(_build_variable(variable))
    builder.annotation(
        builders.AnnotationQuery()
        .name("Deployments")
        .datasource(_refer_to_source("prometheus"))
        .enable(True)
        .icon_color("blue")
        .expr(DEPLOYMENTS)
        .step("1m")
        .title_format("Version {{version}}")
        .text_format("commit {{commit}}")
    )
    _add_panels(builder, board.rows)
    return json.dumps(builder.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _add_panels(builder: builders.Dashboard, rows: tuple[Row, ...]) -> None:
    """From left to right in each row. The builders' own grid would put a lone first panel over the row's title."""
    y = number = 0
    for row in rows:
        number += 1
        builder.with_row(
            builders.Row(row.title).id(number).collapsed(False).grid_pos(dashboard.GridPos(h=1, w=WIDTH, x=0, y=y))
        )
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            number += 1
            position = dashboard.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            builder.with_panel(_build_panel(panel).id(number).grid_pos(position))
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _refer_to_source(source: Source) -> common.DataSourceRef:
    return common.DataSourceRef(type_val=source, uid=f"${{{source}}}")


def _build_variable(variable: Variable) -> Any:
    if not variable.metric:
        return builders.TextBoxVariable(variable.name).label(variable.title).default_value(variable.default)
    return (
        builders.QueryVariable(variable.name)
        .label(variable.title)
        .datasource(_refer_to_source("prometheus"))
        .query(f"label_values({variable.metric}, {variable.label})")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")  # a shop outside Kubernetes has no namespace: the label is not there
        .current(ALL)
    )


def _build_panel(panel: Panel) -> PanelBuilder:
    builder = BUILDERS[panel.kind]().title(panel.title).description(panel.description)
    builder.datasource(_refer_to_source(panel.source))
    for index, query in enumerate(panel.queries):
        builder.with_target(_build_query(panel, query, chr(ord("A") + index)))
    if panel.source == "prometheus":
        builder.unit(panel.unit)
        _set_field_options(builder, panel)
    match panel.kind:
        case "lines":
            _shape_lines(builder, panel)
        case "stat" | "bars":
            builder.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        case "states":
            builder.fill_opacity(80).legend(common_builders.VizLegendOptions().show_legend(False))
        case "table":
            builder.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
            hidden = {"Time": True, "__name__": True}
            organize = dashboard.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
            builder.with_transformation(organize)
        case "logs":
            builder.show_time(True).wrap_log_message(True).enable_log_details(True)
    return builder


def _build_query(panel: Panel, query: Query, ref_id: str) -> Any:
    match panel.source:
        case "loki":
            return loki.Dataquery().expr(query.text).ref_id(ref_id).query_type("range").max_lines(200)
        case "jaeger":
            return JaegerQuery(query.text, ref_id)
    target = prometheus.Dataquery().expr(query.text).legend_format(query.legend).ref_id(ref_id)
    if panel.kind in ("bars", "table"):
        target.instant()
    else:
        target.range()
    if panel.kind == "table":
        target.format("table")  # type: ignore[arg-type] # an enumeration of texts
    return target.exemplar(True) if query.exemplars else target


def _set_field_options(builder: PanelBuilder, panel: Panel) -> None:
    if panel.unit in ("short", "percentunit", "s", "reqps", "ops", "bytes", "mps", "none"):
        builder.min(0)
    if panel.maximum is not None:
        builder.max(panel.maximum)
    if panel.decimals is not None:
        builder.decimals(panel.decimals)
    if panel.thresholds or panel.kind in ("stat", "bars"):
        steps = [dashboard.Threshold(None, "green" if panel.thresholds else "blue")]
        steps += [dashboard.Threshold(each.value, each.color) for each in panel.thresholds]
        builder.thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.value_names:
        options = {
            str(value): dashboard.ValueMappingResult(text=text, color=color)
            for value, (text, color) in panel.value_names.items()
        }
        builder.mappings([dashboard.ValueMap(options=options)])
    if panel.link:
        title, url = panel.link
        builder.data_links([builders.DashboardLink(title).url(url)])


def _shape_lines(builder: PanelBuilder, panel: Panel) -> None:
    builder.legend(
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["mean", "max", "lastNotNull"])
        .sort_by("Max")
        .sort_desc(True)
    )
    builder.tooltip(
        common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    builder.line_width(1).show_points(common.VisibilityMode.NEVER).fill_opacity(60 if panel.stacked else 8)
    if panel.stacked:
        builder.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.thresholds:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        builder.thresholds_style(style)

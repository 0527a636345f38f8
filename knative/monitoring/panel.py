"""A dashboard as a value, and the JSON that Grafana reads. Pure.

Source: grafana.com/docs, dashboard JSON model (schema version 39, Grafana 10.4 and later).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = 39
COLUMNS = 24
HEIGHT = 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
ALL = ".*"
"""What a variable stands for while nothing is chosen: it matches a label that is not there, too."""

WINDOW = "$__rate_interval"
"""Grafana's own: long enough for the interval of scrapes, whatever the range that is shown."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL, with Grafana's variables in it.
        legend: a template of labels.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        queries: what it asks.
        unit: Grafana's name of one.
        text: how to read it; a tooltip.
        kind: of Grafana's panels.
        stacked: whether the series are added up.
        width: of `COLUMNS`.
    """

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    text: str = ""
    kind: str = "timeseries"
    stacked: bool = False
    width: int = 8


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader chooses among: the values of a label.

    Attributes:
        name: of the variable.
        label: its values are offered.
        metric: that has the label.
    """

    name: str
    label: str
    metric: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard.

    Attributes:
        uid: the same in every Grafana, so that links last.
        title, text: for people.
        variables: what a reader chooses among.
        rows: title -> panels, from the top.
    """

    uid: str
    title: str
    text: str
    variables: Sequence[Variable]
    rows: Sequence[tuple[str, Sequence[Panel]]]


def queries(dashboard: Dashboard) -> list[str]:
    """Every PromQL that the dashboard asks, as it stands."""
    return [query.expr for _, panels in dashboard.rows for panel in panels for query in panel.queries]


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana imports, provisions from a file, or finds in a ConfigMap."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
            }
        )
        top += 1
        left = 0
        for panel in row:
            if left + panel.width > COLUMNS:
                left, top = 0, top + HEIGHT
            place = {"x": left, "y": top, "w": panel.width, "h": HEIGHT}
            panels.append({"id": len(panels) + 1, **_panel(panel), "gridPos": place})
            left += panel.width
        top += HEIGHT
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": ["zeroserve"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "links": [
            {
                "type": "dashboards",
                "title": "zeroserve",
                "tags": ["zeroserve"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": stacking,
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "range": panel.kind != "table",
            "instant": panel.kind == "table",
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for place, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.metric}, {variable.label})"
    return {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ALL,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }

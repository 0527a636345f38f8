"""HDFS's own event stream (inotify), one event each. Pure.

A file is told of when it is made, each time it is appended to, and when it is closed; clients that write through
WebHDFS close it after every chunk, so a CLOSE may have a part of the size. Whether a version is complete is proved
from its bytes anyway; an upload to a temporary folder that is renamed shows as one event.

Source: apache/hadoop hadoop-hdfs-client org/apache/hadoop/hdfs/inotify/Event.java.
"""

from collections.abc import Mapping
from typing import Any

from events.json_value import optional_size, optional_text, text
from events.object_event import ObjectCreated, ObjectEvent, ObjectRemoved
from events.place import Place

KINDS = frozenset({"CREATE", "CLOSE", "APPEND", "RENAME", "METADATA", "UNLINK", "TRUNCATE"})


def inotify(value: Mapping[str, Any], host: str = "") -> tuple[ObjectEvent, ...]:
    """The events of one entry of the stream: `{"txid": 10, "eventType": "CLOSE", "path": "/models/m/1/x"}`.

    Args:
        value: the entry.
        host: of the name node; empty where it is not known.

    Raises:
        MalformedError: it names no path.
    """
    kind = optional_text(value.get("eventType"))
    order = optional_text(value.get("txid"))
    if kind == "CLOSE":
        size = optional_size(value.get("fileSize"))
        return (ObjectCreated(_place(value, "path", host), size, "", order),)
    if kind == "RENAME":
        gone, there = _place(value, "srcPath", host), _place(value, "dstPath", host)
        return (ObjectRemoved(gone, order, tree=True), ObjectCreated(there, None, "", order, tree=True))
    if kind == "UNLINK":
        return (ObjectRemoved(_place(value, "path", host), order, tree=True),)
    return ()


def _place(value: Mapping[str, Any], name: str, host: str) -> Place:
    return Place("hdfs", host.partition(":")[0].lower(), text(value.get(name), name).lstrip("/"))

"""The storage of each base path, made once and kept: connections, and proofs of completeness. Safe from any thread."""

import threading
from collections import OrderedDict

from loader.storage import Storage, open_storage

MAX_STORES = 256
"""Base paths whose connections are kept."""


class Stores:
    """Opens storage by its base path.

    Args:
        driver: see `loader.storage.open_storage`.
    """

    def __init__(self, driver: str = "auto") -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Storage] = OrderedDict()

    def of(self, url: str) -> Storage:
        """The storage of a base path; nothing is contacted.

        Raises:
            ServingError: see `open_storage`.
        """
        with self._lock:
            storage = self._kept.pop(url, None)
        if storage is None:
            storage = open_storage(url, self._driver)
        with self._lock:
            self._kept[url] = storage
            while len(self._kept) > MAX_STORES:
                self._kept.popitem(last=False)
        return storage

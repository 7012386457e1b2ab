"""``papermill --engine crmresearch``: papermill's own loops, with kernels forked from one process."""

from __future__ import annotations

import atexit
import functools
import os
from typing import Any

from papermill.engines import NBClientEngine

from crmresearch.run import kernels


class Engine(NBClientEngine):
    """Papermill's engine with other kernels; the first notebook of a process starts the server of all."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
        """Execute a notebook."""
        _serve()
        try:
            kwargs["kernel_manager_class"] = kernels.Manager
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
        finally:
            kernels.Manager.forget_all()


@functools.cache
def _serve() -> None:
    if kernels.FORKS:
        server = kernels.Server({**os.environ, **kernels.ENVIRONMENT})
        os.environ[kernels.SERVER] = server.place
        atexit.register(server.stop)

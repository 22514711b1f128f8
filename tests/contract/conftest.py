"""The control plane's fixtures serve here too."""

from tests.control_plane.conftest import config, database, new_key

__all__ = ["config", "database", "new_key"]

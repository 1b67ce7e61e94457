"""Values that options of the client take. The command line reads them before it needs a client."""

from __future__ import annotations

from typing import Literal

Profile = Literal["smoke", "quick", "paper"]
ReportFormat = Literal["html", "json", "csv", "md", "pdf", "zip"]

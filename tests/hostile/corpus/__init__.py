"""What hostile people upload, each kind once, with the answer that the service defines for it."""

from __future__ import annotations

from tests.hostile.corpus import archives, forms, images, keys, protected
from tests.hostile.corpus.kind import HostileCase

CORPUS: list[HostileCase] = [*images.KINDS, *protected.KINDS, *forms.KINDS, *archives.KINDS, *keys.KINDS]

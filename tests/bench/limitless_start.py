"""As tests.warm_start, of daemons for whom no second counts: nothing but the machine limits what they ask of Kommo."""

from __future__ import annotations

from itgrix_kommo.kommo import limiter
from tests import warm_start

if __name__ == "__main__":
    limiter.WINDOW = limiter.JITTER = 0.0
    warm_start.main()

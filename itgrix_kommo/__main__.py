"""`python -m itgrix_kommo` is the command `itgrix-kommo`."""

from __future__ import annotations

from itgrix_kommo.cli.main import main

main()

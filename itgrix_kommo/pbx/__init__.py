"""The PBX's own database: what it remembers of calls (CEL, CDR). Read, never written."""

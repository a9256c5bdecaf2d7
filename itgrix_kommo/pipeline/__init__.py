"""What becomes of calls: from the tracker's stages to rows, from rows to the CRM."""

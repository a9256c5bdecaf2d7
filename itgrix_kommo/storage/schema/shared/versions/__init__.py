"""In order; each is carried out once and never changed after its release."""

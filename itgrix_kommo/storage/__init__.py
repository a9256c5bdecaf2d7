"""What must survive: the journal of live calls, and the registrations of ended ones."""

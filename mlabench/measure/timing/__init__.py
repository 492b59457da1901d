"""Timing methods, one file each, behind one interface (`method.Timer`)."""

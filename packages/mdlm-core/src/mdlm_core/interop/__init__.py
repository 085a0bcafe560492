"""Models that other libraries made, behind the protocols of this one."""

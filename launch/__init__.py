"""Who runs where: the command line and the launchers."""

"""What each command of the command line does: modules with ``run(given)``, and their parts."""

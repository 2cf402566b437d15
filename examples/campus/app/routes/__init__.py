"""The routes: four create a kind of task each, `tasks` follows them all."""

"""The simulated robot: a MuJoCo table-top with hidden facts, its recall episodes."""

"""The simulated robot: a MuJoCo table-top with hidden facts, its drivers and its recall episodes."""

"""The simulated robot: a MuJoCo table-top with hidden facts, its drivers, its recall episodes."""

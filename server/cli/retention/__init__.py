"""`trackd retention` and `trackd hold`: keeping data by policy, and seeing that it is kept so."""

"""``r1reward data``: stores of preference pairs; one file an action."""

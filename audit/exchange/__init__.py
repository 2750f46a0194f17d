"""Tasks for other labelling tools (`tasks`) and their answers (`answers`), with one module per format."""

"""From a run to a bundle: `build.export_bundle` merges the adapter, writes graphs, checks them and writes the folder."""

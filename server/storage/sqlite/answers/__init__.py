"""Questions to the embedded engine: cut, planned per month, answered from rollups, index, tail or truth, combined."""

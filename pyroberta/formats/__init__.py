"""Files that come from anywhere: what a reader of one may take."""

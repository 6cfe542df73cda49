"""Query -> databases on which mistakes show, and answers -> grades."""

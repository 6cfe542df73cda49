"""A lexicon's name -> words and phrases."""

"""What text is made of: sentences, words, headings, passages. No network and no files."""

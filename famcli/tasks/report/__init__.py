"""A page that shows a result beside the document it is about, with citations that lead to their places."""

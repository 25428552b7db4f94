"""After the search: finalists, candidates for export, the winner."""

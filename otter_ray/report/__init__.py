"""Reading a study: what its journal says, as rows and tables. Imports neither torch nor ray."""

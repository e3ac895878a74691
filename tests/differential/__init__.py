"""Random questions, answered by each engine and by a database that other people wrote."""

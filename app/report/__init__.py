"""Reports of evaluations, and the table view model they share with dashboard, command line and client."""

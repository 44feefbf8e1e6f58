"""Tables, plots and the HTML page that are drawn from result files."""

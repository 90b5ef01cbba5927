"""What a run leaves behind: the report as values, Markdown and HTML."""

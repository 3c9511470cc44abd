"""What comes of a run for people: the text section, report.html, comparison, gates, CI output."""

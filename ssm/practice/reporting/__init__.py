"""The report of a study: its findings in sentences and tables, on one page of HTML."""

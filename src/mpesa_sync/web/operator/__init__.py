"""Pages for operators, who look after all venues: alerts. They look like the pages of the staff."""

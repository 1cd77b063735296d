"""HTML reports: self-contained pages and the figures on them."""

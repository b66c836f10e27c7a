"""What every report is made of: JSON, CSV, HTML and SVG as text, numbers for readers, and files written safely."""

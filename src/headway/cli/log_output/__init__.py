"""What a serving process logs and prints, and how."""

"""What a row is: its fields as many tools write them, in one of a few forms."""

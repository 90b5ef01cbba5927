"""What is seen: measured numbers in, findings out. One failure family a file."""

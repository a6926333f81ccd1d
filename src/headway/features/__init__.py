"""What Headway adds to the server object that it serves."""

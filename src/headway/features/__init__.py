"""Methods and results that Headway adds to the server object that it serves."""

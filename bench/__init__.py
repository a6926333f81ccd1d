"""The benchmark: what Headway costs beside the servers it is compared with. See README.md."""

"""The official Go driver as load, against canned replies or a real server."""

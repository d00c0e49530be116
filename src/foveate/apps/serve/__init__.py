"""The server and the page. Nothing here is imported by the library itself; it needs the extra `foveate[serve]`."""

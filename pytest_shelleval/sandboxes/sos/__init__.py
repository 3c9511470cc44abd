"""Sandboxes of SoS servers, over HTTP."""

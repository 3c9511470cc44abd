"""Our sandboxes served over SoS's protocol; needs the extra ``serve``."""

"""Peers: other servers that send every line that they get over TCP to every WebSocket client, measured beside ours."""

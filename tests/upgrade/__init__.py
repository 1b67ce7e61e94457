"""Upgrade from version 0.1: its state folder, the script that wrote it, and checks over HTTP."""

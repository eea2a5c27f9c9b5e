"""Pictures, clips, cameras and windows: what comes in and what goes out. Nothing in here imports torch."""

"""Running a style: images, folders, video and live, on ONNX Runtime alone. Nothing in here imports torch."""

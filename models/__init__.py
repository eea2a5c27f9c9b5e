"""Networks and losses: the loss network, the perceptual loss, the transformer networks and their ONNX export."""

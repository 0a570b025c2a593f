"""PyTorch networks of wm_ros: tokenizer, TTT memory, denoiser. Knows nothing of ROS."""

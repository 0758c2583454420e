"""What a Windows host says about itself: the script that asks it, and the reader of its answer."""

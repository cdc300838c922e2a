"""Photos of any size, encrypted so that they decrypt after what photo sites do to them."""

"""The nine emerging capabilities: what is asked, the two arms, and what they come to."""

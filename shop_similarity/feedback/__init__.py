"""What shoppers do with look-alikes: tokens, recording, daily sums, statistics, experiments. See docs/feedback.md."""

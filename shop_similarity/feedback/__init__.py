"""What shoppers do with look-alikes: tokens, events, daily sums, statistics, experiments. See docs/feedback.md."""

"""Made texts that training and evaluation share: episodes to be recalled, stories of facts, and filler."""

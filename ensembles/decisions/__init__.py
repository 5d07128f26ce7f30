"""From probabilities to concept sets: `rule` has the rules, `choose` picks the one that pays."""

"""Models and defenses whose robustness is known: broken ones that a scorecard must catch, honest ones it must not."""

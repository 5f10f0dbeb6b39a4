"""Many runs of one recipe, side by side: which, started how, and what they say together."""

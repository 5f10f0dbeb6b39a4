"""The commands of ``robustclip``, without what they do: that is imported when one is called."""

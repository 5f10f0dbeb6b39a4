"""Data sets as their makers hand them out: folders, lists, binary and MATLAB files into pictures with labels."""

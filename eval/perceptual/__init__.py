"""What the perceptual demo measures: distances of changed pictures, and how legible inversions are."""

"""What a training will cost, told before it starts: work, time, memory, disk, and a rehearsal of its processes."""

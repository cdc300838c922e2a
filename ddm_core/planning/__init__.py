"""What a training will take, before it is begun: work, memory, data, hours and money."""

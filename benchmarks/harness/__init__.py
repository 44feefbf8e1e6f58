"""What every suite stands on: options, turns of actions, intervals, runs that resume, the machine's description."""

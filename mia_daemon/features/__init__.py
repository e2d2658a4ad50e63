"""Market events in, the 350 features out: incremental, on event time, the same bits however the input is cut."""

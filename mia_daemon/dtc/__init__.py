"""The DTC wire protocol: bytes in, typed values out; no socket, no clock, no await."""

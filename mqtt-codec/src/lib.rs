//! A strict, zero-copy, sans-io codec for MQTT 3.1, 3.1.1 and 5.0.

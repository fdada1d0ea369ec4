//! An MQTT broker for a million devices on one machine.

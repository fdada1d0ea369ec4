"""Third-party MQTT clients, and the cases that they try on a broker."""

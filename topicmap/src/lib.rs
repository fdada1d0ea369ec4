//! MQTT topic routing: filters, subscriber sets, interest masks, retained stores and match caches.

//! Hierarchical timer wheels with lazy reset, driven by ticks or by timerfd.

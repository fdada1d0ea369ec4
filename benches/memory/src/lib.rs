//! Workloads that the contenders share.

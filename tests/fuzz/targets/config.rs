//! The configuration file: rejected with problems that have a position, or parsed; then it is saved
//! and parsed again.
#![no_main]

use vtep_control::config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match config::parse("fuzz.toml", text) {
        Ok(loaded) => {
            let saved = config::save(&loaded.config);
            let again = config::parse("saved.toml", &saved).unwrap_or_else(|problems| {
                panic!("what was saved is refused: {problems}\n{saved}")
            });
            let changes = config::diff(&loaded.config, &again.config);
            assert!(changes.changes.is_empty(), "{:?}\n{saved}", changes.changes);
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});

//! Runs every fuzz target over its seeds, so that what was found once is checked for good.
#![cfg(feature = "alloc")]

mod support;

use std::path::Path;

use support::exercise::TARGETS;

#[test]
fn the_seeds_of_every_fuzz_target_pass() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    if !seeds.exists() {
        // The published crate comes without the fuzz folder.
        return;
    }
    for (name, exercise) in TARGETS {
        let folder = seeds.join(name);
        let files = folder
            .read_dir()
            .unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut count = 0;
        for file in files {
            let path = file.expect("the folder can be listed").path();
            exercise(&std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")));
            count += 1;
        }
        assert!(count > 0, "{folder:?} has no seeds");
    }
}

/// A seed that nothing decodes would lead the fuzzer nowhere.
#[test]
fn every_seed_of_the_round_trip_is_a_packet() {
    use mqtt_codec::Role;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/roundtrip");
    let Ok(files) = folder.read_dir() else { return };
    for file in files {
        let path = file.expect("the folder can be listed").path();
        let bytes = std::fs::read(&path).expect("a seed can be read");
        let decodes = support::VERSIONS.into_iter().any(|version| {
            [Role::Server, Role::Client]
                .into_iter()
                .any(|role| support::parse(&bytes, version, role).is_ok())
        });
        assert!(decodes, "{path:?}");
    }
}

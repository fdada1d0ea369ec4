//! Runs every target over its seeds, on any compiler, so that what was found is checked for good.

use std::path::Path;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("decode_server", fuzz::exercise::decode_server),
    ("decode_client", fuzz::exercise::decode_client),
    ("roundtrip", fuzz::exercise::roundtrip),
    ("split", fuzz::exercise::split),
    ("memory_queue", fuzz::exercise::memory_queue),
    ("memory_slab", fuzz::exercise::memory_slab),
    ("structured", fuzz::exercise::structured),
    ("topic_map", fuzz::exercise::topic_map),
    ("topic_store", fuzz::exercise::topic_store),
    ("configuration", fuzz::exercise::configuration),
    ("acl_file", fuzz::exercise::acl_file),
    ("password_file", fuzz::exercise::password_file),
    ("token", fuzz::exercise::token),
    ("store_record", fuzz::exercise::store_record),
    ("proxy_header", fuzz::exercise::proxy_header),
    ("web_request", fuzz::exercise::web_request),
    ("web_frames", fuzz::exercise::web_frames),
];

#[test]
fn the_seeds_of_every_target_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, exercise) in TARGETS {
        assert!(root.join(format!("fuzz_targets/{name}.rs")).is_file());
        let folder = root.join("seeds").join(name);
        let mut count = 0;
        for file in folder.read_dir().expect("a target has a folder of seeds") {
            let path = file.expect("the folder can be listed").path();
            exercise(&std::fs::read(&path).expect("a seed can be read"));
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}

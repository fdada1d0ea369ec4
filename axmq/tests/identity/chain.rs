//! Who is asked about a client, and in which order.

use std::fs;

use crate::support::TempDir;
use crate::{Broker, Peer, V5, V311, ask, login};

/// A home with a password file of ann, whose password is her name.
fn home() -> TempDir {
    let home = TempDir::new();
    let batch = ["passwd", "batch", "users", "--hash", "scram-sha-256"];
    ask(&home, &batch, "ann:ann\n");
    home
}

#[test]
fn each_decides_passes_on_or_refuses() {
    for (lines, [known, wrong, stranger, no_password, nobody]) in [
        // As without a chain.
        (
            "chain = [\"password\"]\npassword_file = \"users\"\n",
            [0, 0x86, 0x86, 0x86, 0x87],
        ),
        (
            "chain = [\"password\", \"anonymous\"]\npassword_file = \"users\"\n",
            [0, 0x86, 0x86, 0x86, 0],
        ),
        (
            "chain = [\"anonymous\", \"password\"]\npassword_file = \"users\"\n",
            [0, 0x86, 0x86, 0x86, 0],
        ),
        // Nobody is asked, although there is a file.
        (
            "chain = [\"anonymous\"]\npassword_file = \"users\"\n",
            [0, 0, 0, 0, 0],
        ),
    ] {
        let broker = Broker::start(home(), &format!("[auth]\n{lines}"));
        let login = |user, password| broker.login(V5, user, password);
        assert_eq!(login(Some("ann"), Some("ann")), known, "{lines}");
        assert_eq!(login(Some("ann"), Some("bob")), wrong, "{lines}");
        assert_eq!(login(Some("bob"), Some("bob")), stranger, "{lines}");
        assert_eq!(login(Some("ann"), None), no_password, "{lines}");
        assert_eq!(login(None, None), nobody, "{lines}");
    }
}

#[test]
fn a_reload_changes_the_order_and_ends_what_no_longer_holds() {
    let lines = "[auth]\npassword_file = \"users\"\ndisconnect_revoked = true\n";
    let open = format!("{lines}chain = [\"password\", \"anonymous\"]\n");
    let broker = Broker::start(home(), &open);
    let mut ann = Peer::connected(broker.address, V5, &login("a", Some("ann"), Some("ann")));
    let mut nobody = Peer::connected(broker.address, V5, &login("n", None, None));
    let shown = |id| ask(&broker.home, &["clients", "show", id], "");
    assert!(shown("a").contains("\nlet in by       password\n"));
    assert!(shown("n").contains("\nlet in by       anonymous\n"));

    let closed = format!("{lines}chain = [\"password\"]\n");
    fs::write(broker.home.join("axmq.toml"), closed).expect("it is writable");
    let out = ask(&broker.home, &["reload"], "");
    let expected = "auth.chain: [\"password\", \"anonymous\"] -> [\"password\"]\n";
    assert!(out.contains(expected), "{out}");
    assert_eq!(nobody.disconnect(), 0x98);
    assert_eq!(ann.subscribe("a"), 0);
    assert_eq!(broker.login(V311, None, None), 5);

    // Not set is what is configured, which is the same here.
    fs::write(broker.home.join("axmq.toml"), lines).expect("it is writable");
    let out = ask(&broker.home, &["reload"], "");
    assert!(
        out.contains("auth.chain: [\"password\"] -> not set\n"),
        "{out}"
    );
    let out = ask(&broker.home, &["reload"], "");
    assert!(!out.contains("auth.chain"), "it has been taken over: {out}");
    assert_eq!(ann.subscribe("b"), 0);
}

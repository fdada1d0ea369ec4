use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::edit::Editor;
use super::file::{Passwords, read};
use super::hash::{HashError, PasswordHash, Scheme};
use super::prompt::read_line;

/// Of "correct horse", by Python's hashlib and hmac, and by libxcrypt.
const MADE_ELSEWHERE: [&str; 4] = [
    "$7$101$MDEyMzQ1Njc4OWFi$bGJdXfn6P9jmSY0ZCpIaCSkQ1XayfQBMBwplxxuT8e+N6cR6JaUl22kyOezT4vgFZzRNUO\
     DVbwJMCRIfFS1o8A==",
    "$6$MDEyMzQ1Njc4OWFi$vMblpzgCS5oj2lUbBcEO+PGDOv2Ychcm2aCJlOM/97en/aLeFXM5JAedC3UgjydjvghOxFalED\
     xmI0OHi3Vlsg==",
    "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
    "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFi$F8Lt03VyXfb1S0ByW9Yy9T+P+txr5a0jVYh4uuKi6Q0=:pvBficul/qQvt\
     flSqIMUEcrSMJC1ecc0eAo7bkZVN9E=",
];
/// Of "password", from the tests of the reference implementation of argon2.
const ARGON2: &str =
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

#[track_caller]
fn parsed(text: &str) -> PasswordHash {
    match PasswordHash::parse(text) {
        Ok(hash) => hash,
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn hashes_of_other_programs_are_read_checked_and_written_back() {
    let all = MADE_ELSEWHERE.map(|hash| ("correct horse", hash));
    for (password, text) in all.into_iter().chain([("password", ARGON2)]) {
        let hash = parsed(text);
        assert!(hash.admits(password.as_bytes()), "{text}");
        assert_eq!(hash.to_string(), text);
        for wrong in [
            "",
            "correct hors",
            "correct horse ",
            "Correct horse",
            "passwor",
        ] {
            assert!(!hash.admits(wrong.as_bytes()), "{text} admits {wrong:?}");
        }
        let shown = format!("{hash:?}");
        assert!(shown.len() < 12, "it is not in a log: {shown}");
    }
}

#[test]
fn hashes_made_here_are_read_again() {
    for (scheme, begin) in [
        (Scheme::Argon2id, "$argon2id$v=19$m=19456,t=2,p=1$"),
        (Scheme::Pbkdf2Sha512, "$7$210000$"),
        (Scheme::ScramSha256, "SCRAM-SHA-256$15000:"),
    ] {
        let made = PasswordHash::of_password(b"pass\xFFword", scheme).expect("random numbers");
        let text = made.to_string();
        assert!(text.starts_with(begin), "{text}");
        assert!(parsed(&text).admits(b"pass\xFFword"), "{text}");
        assert!(!parsed(&text).admits(b"pass\xFEword"), "{text}");
        let again = PasswordHash::of_password(b"pass\xFFword", scheme).expect("random numbers");
        assert_ne!(again.to_string(), text, "each has a salt of its own");
        assert_eq!(made.scram().is_some(), scheme == Scheme::ScramSha256);
    }
}

#[test]
fn what_is_no_hash_is_refused_with_advice() {
    let sha = |salt: &str, hash: &str| format!("$6${salt}${hash}");
    let sixty_four = "A".repeat(86);
    for (text, expected) in [
        ("secret", "not the hash"),
        ("", "not the hash"),
        ("$1$abc$def", "unknown hash `$1$`"),
        (
            "$argon2id$v=18$m=256,t=2,p=1$c29tZXNhbHQ$nf65",
            "after $argon2 come",
        ),
        (
            "$argon2id$v=19$m=256,t=2$c29tZXNhbHQ$nf65",
            "after $argon2 come",
        ),
        (
            "$argon2id$v=19$m=256,t=2,p=1,x=1$c29tZXNhbHQ$nf65",
            "after $argon2 come",
        ),
        (
            "$argon2id$v=19$m=256,t=2,p=1$c29t$nf65EOgLrQMR",
            "the salt is shorter",
        ),
        (
            "$argon2id$v=19$m=1,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR",
            "does not take",
        ),
        ("$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65", "1 GiB"),
        (
            "$argon2id$v=19$m=256,t=65,p=1$c29tZXNhbHQ$nf65",
            "64 passes",
        ),
        ("$7$0$YWJj$YWJj", "after $7$ come"),
        ("$7$10000001$YWJj$YWJj", "10,000,000"),
        ("$7$101$YWJj$YWJj", "64 bytes"),
        ("$7$101$*$YWJj", "salt"),
        (&sha("", &sixty_four), "salt"),
        ("$6$YWJj", "after $6$"),
        (
            "$2b$4$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
            "two digits",
        ),
        (
            "$2b$03$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
            "bcrypt",
        ),
        (
            "$2b$19$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
            "18 at most",
        ),
        ("$2b$04$abcdefghijklmnopqrstuujydOTSfIH", "bcrypt"),
        ("SCRAM-SHA-256$0:YWJj$YWJj:YWJj", "after SCRAM-SHA-256"),
        (
            "SCRAM-SHA-256$99999999:YWJj$YWJj:YWJj",
            "after SCRAM-SHA-256",
        ),
    ] {
        let error = PasswordHash::parse(text).map(|hash| hash.to_string());
        let error = error.expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert_eq!(PasswordHash::parse("x").map(|_| ()), Err(HashError::Plain));
}

#[test]
fn all_that_is_wrong_with_a_file_is_said_by_line_and_without_what_stands_there() {
    let good = MADE_ELSEWHERE[2];
    let text = format!(
        "# comment\n\nann:{good}\nbob:hunter2\nno colon\nann:{good}\n:{good}\na\tb:{good}\n"
    );
    let error = Passwords::parse("file", &text)
        .map(|_| ())
        .expect_err("it is wrong");
    let error = error.to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 5, "{error}");
    for (line, expected) in lines.iter().zip([
        "file:4: this is not the hash of a password; to hash it: axmq passwd",
        "file:5: a line is USER:HASH",
        "file:6: this user stands in line 3 already",
        "file:7: the user name is empty",
        "file:8: a user name must have neither",
    ]) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(!error.contains("hunter2"), "{error}");

    let wrong = "x\n".repeat(30);
    let error = Passwords::parse("file", &wrong)
        .map(|_| ())
        .expect_err("it is wrong");
    assert!(error.to_string().ends_with("\n... and 10 more"), "{error}");
}

#[test]
fn users_are_found_and_strangers_are_not() {
    let text = format!("bob:{}\r\nann:{}\n", MADE_ELSEWHERE[1], MADE_ELSEWHERE[2]);
    let passwords = Passwords::parse("file", &text).expect("it is well");
    assert_eq!(passwords.len(), 2);
    for user in ["ann", "bob"] {
        assert!(passwords.admits(user, b"correct horse"));
        assert!(!passwords.admits(user, b"wrong"));
    }
    // Whosever hash is checked in their place: its password does not let them in.
    for stranger in ["", "anna", "ANN", "carl", "zoe"] {
        assert!(!passwords.admits(stranger, b"correct horse"));
    }
    assert!(!Passwords::default().admits("ann", b"correct horse"));
}

/// A folder that is gone when this is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("axmq-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("it is writable");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_change_keeps_the_other_lines_and_the_mode() {
    let folder = Folder::new("passwd");
    let path = folder.0.join("users");
    let mut editor = Editor::open(&path).expect("there is none yet");
    assert!(editor.is_new());
    let busy = Editor::open(&path).map(|_| ()).expect_err("one at a time");
    assert!(busy.to_string().contains("another axmq passwd"), "{busy}");
    editor.set("ann", "1");
    editor.set("bob", "2");
    editor.finish().expect("it is written");
    let mode = |path| fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
    assert_eq!(mode(&path).ok(), Some(0o600));

    fs::write(&path, "# ours\nann:1\n\nbob:2").expect("it is ours");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(&path, &link).expect("it is ours");
    let mut editor = Editor::open(&link).expect("it is there");
    assert!(!editor.is_new());
    editor.set("ann", "3");
    assert!(editor.remove("bob"));
    assert!(!editor.remove("carl"));
    editor.finish().expect("it is written");
    let text = fs::read_to_string(&path).expect("it is there");
    assert_eq!(text, "# ours\nann:3\n\n");
    assert_eq!(
        mode(&path).ok(),
        Some(0o640),
        "nobody else reads it any more"
    );
    assert!(fs::symlink_metadata(&link).is_ok_and(|it| it.is_symlink()));

    drop(Editor::open(&path).expect("the one before has let go"));
    assert!(
        !folder.0.join("users.new").exists(),
        "nothing is left behind"
    );
}

#[test]
fn a_file_that_anybody_may_write_is_refused() {
    let folder = Folder::new("open");
    let path = folder.0.join("users");
    fs::write(&path, "").expect("it is writable");
    fs::set_permissions(&path, Permissions::from_mode(0o602)).expect("it is ours");
    for error in [
        read(&path).map(|_| ()).expect_err("it is open"),
        Editor::open(&path).map(|_| ()).expect_err("it is open"),
    ] {
        assert!(error.to_string().contains("chmod o-w"), "{error}");
    }
    let folder = read(&folder.0).map(|_| ()).expect_err("it is a folder");
    assert!(folder.to_string().ends_with("is not a file"), "{folder}");
}

#[test]
fn a_line_of_input_is_a_password() {
    let line = |text: &str| {
        read_line(&mut text.as_bytes())
            .map(|line| line.to_vec())
            .ok()
    };
    assert_eq!(line("secret\n"), Some(b"secret".to_vec()));
    assert_eq!(line(" s p \r\nmore"), Some(b" s p ".to_vec()));
    assert_eq!(line("secret"), Some(b"secret".to_vec()));
    assert_eq!(line("\n"), None);
    assert_eq!(line(""), None);
    assert!(line(&"x".repeat(65_535)).is_some());
    assert_eq!(line(&"x".repeat(65_536)), None);
}

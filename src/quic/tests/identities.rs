//! What a node may call itself.

use super::*;
use rcgen::date_time_ymd;

#[test]
fn an_identity_is_the_one_provider_of_its_certificate() {
    let ca = Ca::new();
    let identity = ca.identity("a.example");
    assert_eq!(identity.provider(), &provider("a.example"));
    assert_eq!(format!("{identity:?}"), "Identity(a.example)");
    for (names, expected) in [
        (vec!["a.example", "b.example"], "2 names"),
        (vec!["*.a.example"], "*.a.example"),
        (vec!["localhost"], "localhost"),
        (vec![], "names nobody"),
    ] {
        let error = ca.issue(&names, |_| {}).load().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_key_open_to_others_is_refused() {
    let ca = Ca::new();
    let files = ca.issue(&["a.example"], |_| {});
    for mode in [0o640, 0o604, 0o620, 0o644, 0o777] {
        files.set_mode(mode);
        let error = files.load().unwrap_err().to_string();
        let expected = format!(
            "{}: the private key is open to others (mode {mode:o}); chmod 600 it",
            files.key.display()
        );
        assert_eq!(error, expected);
    }
    for mode in [0o600, 0o400] {
        files.set_mode(mode);
        assert!(files.load().is_ok());
    }
}

#[test]
fn files_that_do_not_do_are_named() {
    let ca = Ca::new();
    let (mine, other) = (
        ca.issue(&["a.example"], |_| {}),
        ca.issue(&["a.example"], |_| {}),
    );
    let refused = |certificate: &Path, key: &Path, expected: &str| {
        let error = Identity::load(certificate, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let nowhere = Path::new("/nowhere/at.all");
    refused(
        nowhere,
        &mine.key,
        "/nowhere/at.all: the certificate does not read",
    );
    refused(
        &mine.certificate,
        nowhere,
        "/nowhere/at.all: the private key does not read",
    );
    refused(&mine.key, &mine.key, "there is none in the file");
    refused(&mine.certificate, &other.key, "not the private key of");
    let expired = ca.issue(&["a.example"], |params| {
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    refused(&expired.certificate, &expired.key, "not today");
}

#[test]
fn a_pin_is_64_digits_of_the_key() {
    let ca = Ca::new();
    let (one, other) = (
        ca.issue(&["a.example"], |_| {}),
        ca.issue(&["a.example"], |_| {}),
    );
    let pin = spki_pin(&one.certificate).unwrap();
    assert_eq!(pin.len(), 64);
    assert_ne!(pin, spki_pin(&other.certificate).unwrap());
}
